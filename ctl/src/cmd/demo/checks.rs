//! The checks of a demonstration, each told as it is made.

use crate::error::{CtlError, CtlResult};

/// What was checked and what did not hold.
#[derive(Debug, Default)]
pub struct Checks {
    failed: Vec<String>,
}

impl Checks {
    /// Says whether it holds, and why not.
    pub fn check(&mut self, what: &str, holds: bool, why: impl FnOnce() -> String) {
        if holds {
            eprintln!("  ok      {what}");
        } else {
            let why = why();
            eprintln!("  FAILED  {what}: {why}");
            self.failed.push(format!("{what}: {why}"));
        }
    }

    /// Whether all of them held.
    pub fn conclude(self) -> CtlResult {
        match self.failed.first() {
            None => {
                eprintln!("every check held");
                Ok(())
            }
            Some(first) => {
                let cause = format!("{} checks failed; first: {first}", self.failed.len());
                Err(CtlError::failed("demo", cause))
            }
        }
    }
}
