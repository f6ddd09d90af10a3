//! What a button asks the daemon for.

use super::{Visit, form::Fields, go, words};
use crate::{
    base::{
        event::Task,
        fault::{Failure, Kind},
        name::{Earlier, Note, TriggerName},
    },
    daemon::wire::Request,
    web::answer::Answer,
};

impl Visit<'_> {
    /// Ask the daemon for what the button `what` says, and go to the page of its run, if there is one.
    pub(super) async fn act(
        &self,
        name: &TriggerName,
        what: &str,
        fields: &Fields,
    ) -> Result<Answer, Failure> {
        match what {
            "pause" => {
                let (name, reason) = (name.clone(), self.reason(fields.get("reason"))?);
                self.pause(&Request::Pause { name, reason }).await
            }
            "resume" => {
                let name = name.clone();
                let resumed = self.pause(&Request::Resume { name: name.clone() }).await?;
                match fields.get("deploy") {
                    "" => Ok(resumed),
                    _ => self.start(&name, Task::Update).await,
                }
            }
            what => self.start(name, task(what, fields.get("to"))?).await,
        }
    }

    async fn pause(&self, request: &Request) -> Result<Answer, Failure> {
        self.daemon.pause(request, &self.by()).await?;
        let name = request.trigger().map_or("", TriggerName::as_str);
        Ok(go(&words::trigger_path(name)))
    }

    async fn start(&self, name: &TriggerName, task: Task) -> Result<Answer, Failure> {
        let said = match &task {
            Task::Update => "deploy",
            Task::Rollback { .. } => "roll back",
            task => task.word(),
        };
        let note = Note::lossy(&match &self.session.user {
            Some(user) => format!("{said} by {user}"),
            None => format!("{said} on the page"),
        });
        let run = self.daemon.trigger(name, task, (note, &self.by())).await?;
        Ok(go(&words::run_path(name.as_str(), &run)))
    }

    /// The user who pressed it, for the log of this process.
    fn by(&self) -> String {
        let user = self.session.user.as_deref().unwrap_or("the page");
        format!("{user} from {}", self.client)
    }

    /// `reason` with the name of the user, since for the daemon all users of this page are one.
    fn reason(&self, reason: &str) -> Result<Option<Note>, Failure> {
        let wrong = |why| {
            Failure::new(
                Kind::BadRequest,
                format!("this is not a valid reason: {why}"),
                None,
            )
        };
        let who = self.session.user.as_ref().map(|user| format!("by {user}"));
        let reason = Some(reason.trim()).filter(|reason| !reason.is_empty());
        let words: Vec<&str> = reason.into_iter().chain(who.as_deref()).collect();
        match words.as_slice() {
            [] => Ok(None),
            words => Note::new(&words.join(", ")).map(Some).map_err(wrong),
        }
    }
}

fn task(what: &str, to: &str) -> Result<Task, Failure> {
    let wrong = |why| {
        Failure::new(
            Kind::BadRequest,
            format!("this is not a valid release: {why}"),
            None,
        )
    };
    Ok(match (what, to) {
        ("deploy", _) => Task::Update,
        ("retry", _) => Task::Retry,
        (_, "") => Task::Rollback { to: None },
        (_, to) => Task::Rollback {
            to: Some(Earlier::parse(to).map_err(wrong)?),
        },
    })
}
