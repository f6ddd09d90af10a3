//! A delivery becomes a name, or is refused. (Still without verification: whatever has a body is believed.)

use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{HeaderValue, RETRY_AFTER},
};

use super::{
    answer::{self, Answer},
    client::Client,
    config::Webhook,
    daemon::Link,
};
use crate::base::event::Task;

/// Answer `request`, a delivery to `hook`.
pub async fn hear(hook: &Webhook, link: &Link, request: Request<Incoming>, client: &Client) -> Answer {
    client.admit().await;
    let note = format!("{} from {client}", request.uri().path());
    match link.trigger(&hook.trigger, Task::Update, &note).await {
        Ok(run) => answer::json(
            StatusCode::ACCEPTED,
            &serde_json::json!({"trigger": hook.trigger, "run": run.as_str()}),
        ),
        Err(failure) => {
            let answer = answer::error_json(
                StatusCode::SERVICE_UNAVAILABLE,
                failure.kind.as_str(),
                &failure.message,
                failure.help.as_deref(),
            );
            answer::with(answer, RETRY_AFTER, HeaderValue::from_static("10"))
        }
    }
}
