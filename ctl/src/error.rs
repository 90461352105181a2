//! How a verb fails: one line on stderr and an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed: what was asked for is not so, or a file, a port or a process stood in the way |
//! | 2 | usage: the command line, a document or a configuration is wrong; nothing was sent |
//! | 3 | refused: the cluster understood and said no; nothing was executed |
//! | 4 | unreachable: no answer by the deadline |

use std::fmt;

/// The exit code of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is not so, or a file, a port or a process stood in the way.
    Failed = 1,
    /// The command line, a document or a configuration is wrong; nothing was sent.
    Usage = 2,
    /// The cluster understood and said no; nothing was executed.
    Refused = 3,
    /// No answer by the deadline.
    Unreachable = 4,
}

/// Why a verb failed: what was attempted, the cause, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CtlError {
    /// The exit code.
    pub exit: Exit,
    /// `what was attempted: cause`, one line.
    pub text: String,
}

/// What a verb ends with.
pub type CtlResult<T = ()> = Result<T, CtlError>;

impl CtlError {
    /// A failure whose text says what was attempted and why it did not work.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// Something stood in the way.
    pub fn failed(attempted: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, format!("{attempted}: {cause}"))
    }

    /// The caller's input is wrong.
    pub fn usage(attempted: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, format!("{attempted}: {cause}"))
    }

    /// The cluster said no.
    pub fn refused(attempted: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, format!("{attempted}: {cause}"))
    }

    /// Nobody answered in time.
    pub fn unreachable(attempted: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, format!("{attempted}: {cause}"))
    }

    /// The same failure of a larger attempt.
    #[must_use]
    pub fn during(self, attempted: impl fmt::Display) -> Self {
        Self { exit: self.exit, text: format!("{attempted}: {}", self.text) }
    }
}

impl fmt::Display for CtlError {
    /// Always one line: line breaks of causes become spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.text.split_whitespace();
        if let Some(first) = words.next() {
            f.write_str(first)?;
        }
        words.try_for_each(|word| write!(f, " {word}"))
    }
}

impl std::error::Error for CtlError {}

/// An error with its sources, `: ` between them, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their source in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_its_cause_looks_like() {
        let error = CtlError::failed("reading a file", "line one\n  line two\n");
        assert_eq!(error.to_string(), "reading a file: line one line two");
        assert_eq!(error.during("apply").to_string(), "apply: reading a file: line one line two");
    }
}
