//! What can go wrong in a handling. A closed list: the same words in metrics, replies and documentation.

use std::fmt;

/// Why a handling failed. The handling has sent nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The actor type has no handler of this kind, the payload has another length, or an enum in it has the number of no
    /// variant. The only fault that leaves the actor as it was: it is returned before any handler runs.
    BadMessage,
    /// The result of an operation does not fit its type, or a shift is as wide as its operand.
    Overflow,
    /// A division or remainder by zero.
    DivideByZero,
    /// An index beyond the end of an array, or an enum in the state that has the number of no variant.
    OutOfBounds,
    /// More tells, replies and timers than the type's `max_sends`.
    TooManySends,
    /// More loop iterations than one message may take.
    OutOfFuel,
    /// A timer further ahead than allowed.
    DelayTooLong,
    /// No room for another pending timer on this worker.
    TimerFull,
    /// `ctx.fail(code)`.
    User(u16),
    /// An actor of a set whose failures go to this one has failed for good.
    ChildFailed,
}

impl Fault {
    /// All of them, in the order of their classes; the user's with code 0.
    pub const ALL: [Fault; 10] = [
        Fault::BadMessage,
        Fault::Overflow,
        Fault::DivideByZero,
        Fault::OutOfBounds,
        Fault::TooManySends,
        Fault::OutOfFuel,
        Fault::DelayTooLong,
        Fault::TimerFull,
        Fault::User(0),
        Fault::ChildFailed,
    ];

    /// The code that crosses boundaries: the class (1 to 10) in the lower 16 bits, the user's code in the upper.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Fault::BadMessage => 1,
            Fault::Overflow => 2,
            Fault::DivideByZero => 3,
            Fault::OutOfBounds => 4,
            Fault::TooManySends => 5,
            Fault::OutOfFuel => 6,
            Fault::DelayTooLong => 7,
            Fault::TimerFull => 8,
            Fault::User(code) => 9 | (code as u32) << 16,
            Fault::ChildFailed => 10,
        }
    }

    /// The inverse of [`Fault::code`].
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            1 => Fault::BadMessage,
            2 => Fault::Overflow,
            3 => Fault::DivideByZero,
            4 => Fault::OutOfBounds,
            5 => Fault::TooManySends,
            6 => Fault::OutOfFuel,
            7 => Fault::DelayTooLong,
            8 => Fault::TimerFull,
            10 => Fault::ChildFailed,
            _ if code & 0xFFFF == 9 => Fault::User((code >> 16) as u16),
            _ => return None,
        })
    }

    /// The word used in metrics, replies and documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::BadMessage => "bad_message",
            Fault::Overflow => "overflow",
            Fault::DivideByZero => "divide_by_zero",
            Fault::OutOfBounds => "out_of_bounds",
            Fault::TooManySends => "too_many_sends",
            Fault::OutOfFuel => "out_of_fuel",
            Fault::DelayTooLong => "delay_too_long",
            Fault::TimerFull => "timer_full",
            Fault::User(_) => "user",
            Fault::ChildFailed => "child_failed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::User(code) => write!(f, "user:{code}"),
            other => f.write_str(other.name()),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_survives_its_code() {
        for fault in Fault::ALL.into_iter().chain([Fault::User(u16::MAX)]) {
            assert_eq!(Fault::from_code(fault.code()), Some(fault));
        }
        assert_eq!(Fault::from_code(0), None);
        assert_eq!(Fault::from_code(1 << 16), None);
    }
}
