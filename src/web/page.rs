//! The pages for browsers: triggers, runs, releases and deliveries, with buttons.
//!
//! Pages are whole without JavaScript, except for the lines of a run while it goes on. No resource comes from another host, and
//! names and messages that others have written are always escaped (`words`). The daemon permits or refuses what a button asks for.

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_std::{future::timeout, task};
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
        RETRY_AFTER,
    },
};
use maud::Markup;

use super::{
    answer::{self, Answer},
    client::Client,
    config,
    daemon::{Daemon, Line, PATIENCE},
    deliveries::Deliveries,
    session::{
        self, Cookie, Session,
        gate::{Gate, Refused},
    },
    stream,
};
use crate::base::{
    event::{May, Status},
    fault::{Failure, Kind},
    name::{RunId, TriggerName},
};

mod arrivals;
mod assets;
mod body;
mod button;
mod cookies;
mod form;
mod frame;
mod notice;
mod origin;
mod overview;
mod pause;
mod press;
mod run;
mod sign_in;
mod timeline;
mod trigger;
mod words;

use cookies::{cookies, with_cookie};
use form::Fields;

/// The pages, and who may see them.
#[derive(Debug)]
pub struct Pages(Arc<Gate>);

/// What the path of a request names.
enum Route<'a> {
    Overview,
    Trigger(TriggerName),
    Run(TriggerName, RunId),
    Events(TriggerName, RunId),
    Act(TriggerName, &'a str),
    SignIn,
    SignOut,
}

struct Visit<'a> {
    daemon: &'a Daemon,
    deliveries: &'a Deliveries,
    client: &'a Client,
    session: Session,
}

impl Pages {
    /// The pages, as configured.
    pub fn new(page: &config::Page) -> Result<Self, session::Error> {
        Ok(Self(Arc::new(Gate::new(&page.users)?)))
    }

    /// Answer a request.
    pub async fn answer(
        &self,
        daemon: &Daemon,
        deliveries: &Deliveries,
        request: Request<Incoming>,
        client: &Client,
    ) -> Answer {
        let path = request.uri().path().to_owned();
        if let Some(asset) = assets::at(&path) {
            return asset_of(asset, &path);
        }
        let is_far = self.0.is_open() && client.addr.is_some();
        if is_far && !origin::is_for_this_machine(request.headers()) {
            return notice::answer(StatusCode::MISDIRECTED_REQUEST, &notice::another_name());
        }
        if is_far && origin::is_passed_on(request.headers(), request.version()) {
            return notice::answer(StatusCode::FORBIDDEN, &notice::passed_on());
        }
        let Some(route) = route(&path) else {
            return notice::answer(StatusCode::NOT_FOUND, &notice::nothing_here());
        };
        if let Some(answer) = refused_method(&request, &route) {
            return answer;
        }
        let session = self.session(&request, client).await;
        match (route, session) {
            (Route::SignIn, None) => self.sign_in(request, client).await,
            (Route::SignIn, Some(_)) => go(&destination(Fields::read(query(&request)).get("to"))),
            (Route::SignOut, None) => go("/sign-in"),
            (Route::Events(..), None) => answer::text(StatusCode::UNAUTHORIZED, "Sign in first.\n"),
            (route, None) => go(&format!("/sign-in?to={}", quoted(&back(&route, &request)))),
            (route, Some(session)) => {
                client.admit().await;
                let visit = Visit {
                    daemon,
                    deliveries,
                    client,
                    session,
                };
                self.visit(visit, route, request).await
            }
        }
    }

    async fn visit(&self, visit: Visit<'_>, route: Route<'_>, request: Request<Incoming>) -> Answer {
        let is_read = request.method() != Method::POST;
        let result = match route {
            Route::Overview => visit.overview(&Fields::read(query(&request))).await,
            Route::Trigger(name) => visit.trigger(&name).await,
            Route::Run(name, run) => visit.run(&name, &run).await,
            Route::Events(name, run) => {
                let query = Fields::read(query(&request));
                let after = request
                    .headers()
                    .get("last-event-id")
                    .and_then(|id| id.to_str().ok());
                let after = after.unwrap_or(query.get("after"));
                let follower = visit.daemon.follow(&name, &run, Some(after));
                let cookies = cookies(Cookie::Session, &request, visit.client);
                let gate = self.0.clone();
                let is_in = move || {
                    let who = who(gate.clone(), cookies.clone());
                    async { who.await.is_some() }
                };
                return stream::answer(follower, is_in);
            }
            Route::Act(name, what) => match visit.form(request).await {
                Ok(fields) => visit.act(&name, what, &fields).await,
                Err(answer) => return answer,
            },
            Route::SignOut => return self.sign_out(visit, request).await,
            Route::SignIn => return go("/"),
        };
        result.unwrap_or_else(|failure| {
            notice::answer(
                status_of(&failure),
                &notice::failed(&failure, &visit.session, is_read),
            )
        })
    }

    async fn session(&self, request: &Request<Incoming>, client: &Client) -> Option<Session> {
        who(self.0.clone(), cookies(Cookie::Session, request, client)).await
    }

    async fn sign_in(&self, request: Request<Incoming>, client: &Client) -> Answer {
        if request.method() != Method::POST {
            let to = destination(Fields::read(query(&request)).get("to")).into_owned();
            return shown(StatusCode::OK, sign_in::page(&to, None));
        }
        if !origin::is_ours(request.headers()) {
            return notice::answer(StatusCode::FORBIDDEN, &notice::foreign_form());
        }
        let known = cookies(Cookie::Known, &request, client);
        let fields = match body::fields(request).await {
            Ok(fields) => fields,
            Err(answer) => return answer,
        };
        let to = destination(fields.get("to")).into_owned();
        let (gate, from) = (self.0.clone(), client.addr);
        let user = fields.get("user").to_owned();
        let entered = task::spawn_blocking(move || {
            gate.enter(fields.get("user"), fields.get("password"), from, &known)
        })
        .await;
        match entered {
            Ok(entered) => {
                tracing::info!("{user} has signed in from {client}");
                let answer = with_cookie(go(&to), Cookie::Session, &entered.session, client);
                with_cookie(answer, Cookie::Known, &entered.known, client)
            }
            Err(Refused::Wrong) => {
                // The name may be a password that was typed into the wrong field.
                tracing::warn!("a sign-in from {client} was refused: wrong name or password");
                let wrong = "The name or the password is wrong.";
                shown(StatusCode::UNAUTHORIZED, sign_in::page(&to, Some(wrong)))
            }
            Err(Refused::TooMany(wait)) => too_many(&to, wait),
        }
    }

    async fn sign_out(&self, visit: Visit<'_>, request: Request<Incoming>) -> Answer {
        let cookies = cookies(Cookie::Session, &request, visit.client);
        if let Err(answer) = visit.form(request).await {
            return answer;
        }
        self.0.leave(&cookies);
        with_cookie(go("/sign-in"), Cookie::Session, "", visit.client)
    }
}

impl Visit<'_> {
    async fn overview(&self, query: &Fields) -> Result<Answer, Failure> {
        let asked = overview::Asked {
            page: query.get("page").parse().unwrap_or(1),
            find: query.get("find").trim().chars().take(64).collect(),
        };
        let all = self.daemon.status(None).await?;
        Ok(shown(
            StatusCode::OK,
            overview::page(all, &self.deliveries.latest(), &asked, &self.session),
        ))
    }

    async fn trigger(&self, name: &TriggerName) -> Result<Answer, Failure> {
        let status = self.status(name).await?;
        let log = self.daemon.log(name).await?;
        let page = trigger::page(
            &status,
            &log,
            &self.deliveries.latest(),
            may(&status),
            &self.session,
        );
        Ok(shown(StatusCode::OK, page))
    }

    async fn status(&self, name: &TriggerName) -> Result<Status, Failure> {
        let gone = || Failure::new(Kind::UnknownTrigger, format!("there is no trigger {name}"), None);
        self.daemon.status(Some(name)).await?.pop().ok_or_else(gone)
    }

    async fn run(&self, name: &TriggerName, run: &RunId) -> Result<Answer, Failure> {
        let log = self.daemon.log(name).await?;
        if let Some(current) = log.current.iter().find(|current| current.run == *run) {
            return Ok(shown(StatusCode::OK, run::going_on(name, current, &self.session)));
        }
        let Some(last) = log.past.iter().find(|last| last.run == *run) else {
            return Ok(shown(StatusCode::NOT_FOUND, run::none(name, run, &self.session)));
        };
        let said = self.said(name, run).await?;
        Ok(shown(
            StatusCode::OK,
            run::ended(name, last, &said, &self.session),
        ))
    }

    /// What a run that has ended said.
    async fn said(&self, name: &TriggerName, run: &RunId) -> Result<Vec<Line>, Failure> {
        let mut follower = self.daemon.follow(name, run, None);
        let all = async {
            let mut said = Vec::new();
            while let Some(line) = follower.next().await {
                said.push(line);
            }
            said
        };
        timeout(PATIENCE, all).await.map_err(|_| {
            let late = format!("the daemon did not send the lines of the run {run} within {PATIENCE:?}");
            Failure::new(Kind::Timeout, late, Some("try again"))
        })
    }

    /// The fields of a form that one of our pages has sent, in this session.
    async fn form(&self, request: Request<Incoming>) -> Result<Fields, Answer> {
        let is_ours = origin::is_ours(request.headers());
        let fields = body::fields(request).await?;
        if !is_ours || !self.session.made(fields.get("form")) {
            return Err(notice::answer(StatusCode::FORBIDDEN, &notice::foreign_form()));
        }
        Ok(fields)
    }
}

/// Whether forms are posted to `path`.
pub fn is_form(path: &str) -> bool {
    path.starts_with("/triggers/") || path.starts_with("/sign-")
}

fn route(path: &str) -> Option<Route<'_>> {
    let words: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let name = |name: &str| TriggerName::new(name).ok();
    let run = |run: &str| RunId::parse(run).ok();
    Some(match words.as_slice() {
        [""] => Route::Overview,
        ["sign-in"] => Route::SignIn,
        ["sign-out"] => Route::SignOut,
        ["triggers", trigger] => Route::Trigger(name(trigger)?),
        [
            "triggers",
            trigger,
            what @ ("deploy" | "rollback" | "retry" | "pause" | "resume"),
        ] => Route::Act(name(trigger)?, what),
        ["triggers", trigger, "runs", id] => Route::Run(name(trigger)?, run(id)?),
        ["triggers", trigger, "runs", id, "events"] => Route::Events(name(trigger)?, run(id)?),
        _ => return None,
    })
}

fn refused_method(request: &Request<Incoming>, route: &Route<'_>) -> Option<Answer> {
    let allowed = match route {
        Route::Act(..) | Route::SignOut => "POST",
        Route::SignIn => "GET, HEAD, POST",
        _ => "GET, HEAD",
    };
    if allowed
        .split(", ")
        .any(|method| request.method().as_str() == method)
    {
        return None;
    }
    let answer = answer::text(StatusCode::METHOD_NOT_ALLOWED, format!("This takes {allowed}.\n"));
    Some(answer::with(answer, ALLOW, HeaderValue::from_static(allowed)))
}

fn may(status: &Status) -> button::May {
    button::May {
        deploy: status.may.contains(&May::Trigger),
        rollback: status.may.contains(&May::Rollback),
        retry: status.may.contains(&May::Retry),
        pause: status.may.contains(&May::Pause),
    }
}

fn status_of(failure: &Failure) -> StatusCode {
    match failure.kind {
        Kind::UnknownTrigger | Kind::UnknownRun => StatusCode::NOT_FOUND,
        Kind::NotAllowed => StatusCode::FORBIDDEN,
        Kind::BadRequest => StatusCode::BAD_REQUEST,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        // The daemon is down, busy or has broken the connection: it may answer later.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn query(request: &Request<Incoming>) -> &str {
    request.uri().query().unwrap_or_default()
}

async fn who(gate: Arc<Gate>, cookies: Vec<String>) -> Option<Session> {
    task::spawn_blocking(move || gate.who(&cookies)).await
}

/// The page to show after the sign-in.
fn back(route: &Route<'_>, request: &Request<Incoming>) -> String {
    match route {
        Route::Act(name, _) => words::trigger_path(name.as_str()),
        _ => request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .into(),
    }
}

/// Where to go after the sign-in: always one of our pages, so that no link leads from here to another site.
fn destination(to: &str) -> Cow<'_, str> {
    let path = to.split('?').next().unwrap_or_default();
    let is_plain = to.bytes().all(|byte| byte.is_ascii_graphic());
    match route(path) {
        Some(Route::Overview | Route::Trigger(_) | Route::Run(..)) if is_plain => to.into(),
        _ => "/".into(),
    }
}

fn quoted(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn go(to: &str) -> Answer {
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    answer::with(answer::empty(StatusCode::SEE_OTHER), LOCATION, to)
}

fn too_many(to: &str, wait: Duration) -> Answer {
    let secs = wait.as_secs() + 1;
    let wrong = format!("There were too many attempts. Try again in {secs} seconds.");
    let answer = shown(StatusCode::TOO_MANY_REQUESTS, sign_in::page(to, Some(&wrong)));
    answer::with(answer, RETRY_AFTER, secs.into())
}

/// A page with the headers that limit it to resources of this origin.
fn shown(status: StatusCode, page: Markup) -> Answer {
    let mut answer = answer::html(status, page.into_string());
    for (name, value) in [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        // With no-referrer, a form would have no Origin.
        (REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn asset_of(asset: &'static assets::Asset, path: &str) -> Answer {
    let answer = answer::whole(StatusCode::OK, asset.content_type, asset.bytes);
    let keep = match path {
        "/favicon.svg" => "max-age=3600",
        _ => "max-age=31536000, immutable",
    };
    answer::with(answer, CACHE_CONTROL, HeaderValue::from_static(keep))
}
