//! The token of a listener. Tokens are checked one at a time, and wrong ones are answered with a rate limit; a client with the right
//! one does not wait for those answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_std::{future::timeout, sync::Mutex, task};

use crate::base::{
    fault::{Failure, Kind},
    name::AbsPath,
    pace::Pace,
    secret::Secret,
};

/// How many wrong tokens of one listener are answered without a pause: scripts may still use an old token.
const WRONG: u32 = 100;
/// After those, one wrong token in this time is answered: 20 a second.
const WRONG_EVERY: Duration = Duration::from_millis(50);
/// A wrong token that would have to wait longer for its answer gets none.
const WRONG_PATIENCE: Duration = Duration::from_secs(5);
/// How long the wait for other checks, and reading the token's file, may take together.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The token that clients of a listener must send.
#[derive(Debug)]
pub(super) struct Token {
    file: AbsPath,
    /// Held while a token is checked, by the thread that reads the file, which may hang.
    trial: Arc<Mutex<()>>,
    wrong: Pace,
}

pub(super) struct Rejected {
    /// The answer to the client.
    pub(super) failure: Failure,
    /// The cause, for the log only.
    pub(super) cause: Option<String>,
    /// How long the answer is delayed; without it, there is no answer.
    pub(super) wait: Option<Duration>,
}

impl Token {
    /// The token in `file`, which is read for each check.
    pub(super) fn new(file: AbsPath) -> Self {
        Self {
            file,
            trial: Arc::default(),
            wrong: Pace::new(WRONG, WRONG_EVERY),
        }
    }

    /// Compare what a client sent with the token.
    pub(super) async fn check(&self, said: Option<String>) -> Result<(), Rejected> {
        const HELP: &str = "use --token-file, or send `token SECRET` first";
        let Some(said) = said else {
            return Err(refused("this listener requires a token", HELP));
        };
        let file = self.file.clone();
        let trial = async {
            let held = self.trial.lock_arc().await;
            task::spawn_blocking(move || {
                let _held = held;
                Secret::read(&file).map(|secret| secret.is(&said))
            })
            .await
        };
        let cause = match timeout(CHECK_TIMEOUT, trial).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => {
                return Err(Rejected {
                    wait: self.wrong.turn(Instant::now(), WRONG_PATIENCE),
                    ..refused("the token is wrong", HELP)
                });
            }
            Ok(Err(err)) => Failure::of(&err).message,
            Err(_) => format!(
                "cannot read the secret in {}: it takes longer than {} s",
                self.file,
                CHECK_TIMEOUT.as_secs()
            ),
        };
        // The client must not learn what is wrong with the daemon's files.
        Err(Rejected {
            cause: Some(cause),
            ..refused("the token cannot be checked", "see the daemon's log")
        })
    }
}

fn refused(message: &str, help: &str) -> Rejected {
    Rejected {
        failure: Failure::new(Kind::NotAllowed, message, Some(help)),
        cause: None,
        wait: Some(Duration::ZERO),
    }
}
