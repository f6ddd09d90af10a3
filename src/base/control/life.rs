//! The life of a worker: its states, and how one follows another.

use serde::{Deserialize, Serialize};

/// The states of a worker's life. Each comes after those above it, and a worker never goes back.
///
/// The supervisor orders some of them, the worker reports that it has reached others; to serve needs both. The exit
/// status of a worker that ended well is 0.
///
/// | state | who says so | what the worker does | what the supervisor does next | if the worker dies in it |
/// |---|---|---|---|---|
/// | `Starting` | the supervisor, by starting it | closes its sandbox, reports what that holds on to | waits | the reload is refused, the worker before it goes on; without one, the daemon ends |
/// | `Prepared` | the worker | waits | orders the one that serves to drain; once none accepts connections, orders this one to serve | the same; if no worker accepts connections any more, one for the previous configuration is started |
/// | `Serving` | the supervisor orders it, and the worker once it accepts connections | accepts connections, runs triggers, polls | puts its configuration in force | its hooks are killed; the next worker that serves finishes its runs; if none can, the daemon stops with a failure |
/// | `Draining` | the supervisor | stops accepting connections | waits | its hooks are killed; the one that is prepared serves, and finishes its runs |
/// | `Finishing` | the worker | finishes the runs that it has accepted, and ends | orders the one that is prepared to serve | its hooks are killed; the one that serves finishes its runs |
/// | `Stopping` | the supervisor, at SIGTERM or SIGINT | accepts no connections, finishes accepted runs as soon as it can do so well, and ends | waits as long as the longest run may take, then kills it | the daemon ends with a failure; the next one finishes its runs |
/// | `Aborting` | the supervisor, at the second signal | kills its hooks, and ends | kills it at the third signal | the same |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Life {
    Starting,
    Prepared,
    Serving,
    Draining,
    Finishing,
    Stopping,
    Aborting,
}

/// What may change the state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Ordered(Life),
    Reached(Life),
}

impl Life {
    /// The state after `change`, for the supervisor.
    pub fn after(self, change: Change) -> Self {
        match change {
            // Until it says that it serves, the worker before it is there to go back to.
            Change::Ordered(Self::Serving) => self,
            // One that does not serve yet is not replaced by another.
            Change::Ordered(Self::Draining) if self != Self::Serving => self,
            // One that has not served has no runs to finish.
            Change::Reached(Self::Finishing) if self.is_next() => self,
            // A worker reports no other state; a report that it is in one is ignored.
            Change::Reached(Self::Starting | Self::Draining | Self::Stopping | Self::Aborting) => self,
            Change::Ordered(to) | Change::Reached(to) => self.max(to),
        }
    }

    /// The worker has not served yet.
    pub fn is_next(self) -> bool {
        self <= Self::Prepared
    }

    pub fn accepts(self) -> bool {
        matches!(self, Self::Serving | Self::Draining)
    }

    /// Another worker takes over, or has done so.
    pub fn is_replaced(self) -> bool {
        matches!(self, Self::Draining | Self::Finishing)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change::*, Life::*, *};

    const ALL: [Life; 7] = [
        Starting, Prepared, Serving, Draining, Finishing, Stopping, Aborting,
    ];

    #[test]
    fn each_state_after_each_change() {
        for (change, after) in [
            //                     Starting   Prepared   Serving    Draining   Finishing  Stopping  Aborting
            (
                Ordered(Starting),
                [
                    Starting, Prepared, Serving, Draining, Finishing, Stopping, Aborting,
                ],
            ),
            (
                Ordered(Prepared),
                [
                    Prepared, Prepared, Serving, Draining, Finishing, Stopping, Aborting,
                ],
            ),
            (
                Ordered(Serving),
                [
                    Starting, Prepared, Serving, Draining, Finishing, Stopping, Aborting,
                ],
            ),
            (
                Ordered(Draining),
                [
                    Starting, Prepared, Draining, Draining, Finishing, Stopping, Aborting,
                ],
            ),
            (
                Ordered(Stopping),
                [
                    Stopping, Stopping, Stopping, Stopping, Stopping, Stopping, Aborting,
                ],
            ),
            (Ordered(Aborting), [Aborting; 7]),
            (Reached(Starting), ALL),
            (
                Reached(Prepared),
                [
                    Prepared, Prepared, Serving, Draining, Finishing, Stopping, Aborting,
                ],
            ),
            (
                Reached(Serving),
                [Serving, Serving, Serving, Draining, Finishing, Stopping, Aborting],
            ),
            (Reached(Draining), ALL),
            (
                Reached(Finishing),
                [
                    Starting, Prepared, Finishing, Finishing, Finishing, Stopping, Aborting,
                ],
            ),
            (Reached(Stopping), ALL),
            (Reached(Aborting), ALL),
        ] {
            assert_eq!(ALL.map(|life| life.after(change)), after, "{change:?}");
        }
    }

    #[test]
    fn what_the_states_mean() {
        for (life, is_next, accepts, is_replaced) in [
            (Starting, true, false, false),
            (Prepared, true, false, false),
            (Serving, false, true, false),
            (Draining, false, true, true),
            (Finishing, false, false, true),
            (Stopping, false, false, false),
            (Aborting, false, false, false),
        ] {
            let found = (life.is_next(), life.accepts(), life.is_replaced());
            assert_eq!(found, (is_next, accepts, is_replaced), "{life:?}");
        }
    }
}
