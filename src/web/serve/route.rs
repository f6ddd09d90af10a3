//! The table of routes: which handler gets a request. Paths are compared as they are sent, without decoding.

use std::{collections::BTreeMap, sync::Arc};

use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{ALLOW, HeaderValue},
};

use super::error::Error;
use crate::web::{
    answer::{self, Answer},
    client::Client,
    config::Config,
    daemon::Daemon,
    deliveries::Deliveries,
    hear::{self, Hook},
    metrics::{self, Meters},
    page::{self, Pages},
};

/// The state of the front, of which handlers get parts.
pub(super) struct Front {
    daemon: Daemon,
    hooks: BTreeMap<String, Hook>,
    deliveries: Arc<Deliveries>,
    meters: Option<Meters>,
    pages: Option<Pages>,
}

impl Front {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let daemon = Daemon::new(config.daemon.clone(), config.daemon_token_file.clone());
        Ok(Self {
            hooks: hear::hooks(config)?,
            deliveries: Arc::default(),
            meters: Meters::of(config, &daemon)?,
            pages: config.page.as_ref().map(Pages::new).transpose()?,
            daemon,
        })
    }

    /// Answer `request`.
    pub(super) async fn answer(&self, request: Request<Incoming>, client: &Client) -> Answer {
        let path = request.uri().path();
        if let Some(hook) = self.hooks.get(path) {
            return hear::hear(hook, &self.deliveries, &self.daemon, request, client).await;
        }
        if let Some(meters) = &self.meters {
            match path {
                "/metrics" | "/healthz" | "/readyz" if !is_read(&request) => return not_allowed("GET, HEAD"),
                "/metrics" => return meters.answer(&self.deliveries, request, client).await,
                "/healthz" => return metrics::healthz(),
                "/readyz" => return meters.readyz().await,
                _ => {}
            }
        }
        if *request.method() == Method::POST && !page::is_form(path) {
            self.deliveries.stray(path, &client.to_string());
            let help = Some("compare the URL in the forge with `webhooks` in web.ron");
            return answer::error_json(
                StatusCode::NOT_FOUND,
                "not-found",
                "no webhook has this path",
                help,
            );
        }
        match &self.pages {
            Some(pages) => {
                pages
                    .answer(&self.daemon, &self.deliveries, request, client)
                    .await
            }
            None => answer::text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
        }
    }

    /// Ends when no delivery is being handled; some go on without their connections.
    pub(super) async fn idle(&self) {
        self.deliveries.idle().await;
    }

    /// The process ends: log the names that the daemon has not accepted.
    pub(super) fn farewell(&self) {
        let pending = self.daemon.pending();
        if !pending.is_empty() {
            let names: Vec<_> = pending.iter().map(|name| name.as_str()).collect();
            tracing::warn!(
                "the daemon has not answered: trigger these by hand: {}",
                names.join(", ")
            );
        }
    }
}

fn is_read(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn not_allowed(methods: &'static str) -> Answer {
    let answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer::with(answer, ALLOW, HeaderValue::from_static(methods))
}
