//! The methods that handlers may call on values, and what to write instead of others.

use crate::ir::CheckedOp;

/// What a method name means.
pub enum Method {
    /// Cannot fail: stays as it is.
    Plain { args: usize },
    /// May fail: becomes a checked operation.
    Checked { op: CheckedOp, args: usize },
    /// Not available, with advice.
    Refused(&'static str),
}

/// Looks a method up by its name.
pub fn lookup(name: &str) -> Method {
    let plain = |args| Method::Plain { args };
    match name {
        "abs" => Method::Checked { op: CheckedOp::Abs, args: 0 },
        "pow" => Method::Checked { op: CheckedOp::Pow, args: 1 },
        "clamp" => Method::Checked { op: CheckedOp::Clamp, args: 2 },
        "div_euclid" => Method::Checked { op: CheckedOp::DivEuclid, args: 1 },
        "rem_euclid" => Method::Checked { op: CheckedOp::RemEuclid, args: 1 },

        "wrapping_add" | "wrapping_sub" | "wrapping_mul" | "wrapping_shl" | "wrapping_shr" | "wrapping_pow" => plain(1),
        "wrapping_neg" | "wrapping_abs" => plain(0),
        "saturating_add" | "saturating_sub" | "saturating_mul" | "saturating_pow" => plain(1),
        "saturating_neg" | "saturating_abs" => plain(0),
        "checked_add" | "checked_sub" | "checked_mul" | "checked_div" | "checked_rem" | "checked_div_euclid"
        | "checked_rem_euclid" | "checked_shl" | "checked_shr" | "checked_pow" => plain(1),
        "checked_neg" | "checked_abs" => plain(0),
        "min" | "max" | "abs_diff" | "rotate_left" | "rotate_right" | "copysign" => plain(1),
        "unsigned_abs" | "signum" | "is_positive" | "is_negative" => plain(0),
        "leading_zeros" | "trailing_zeros" | "leading_ones" | "trailing_ones" | "count_ones" | "count_zeros" => {
            plain(0)
        }
        "swap_bytes" | "reverse_bits" | "is_power_of_two" => plain(0),
        "sqrt" | "floor" | "ceil" | "round" | "trunc" | "is_nan" | "is_finite" | "is_infinite" | "to_bits" => plain(0),
        "is_some" | "is_none" | "len" => plain(0),
        "unwrap_or" => plain(1),
        "wall_ms" | "counter" => plain(0),

        "unwrap" | "expect" => {
            Method::Refused("nothing may panic: write `match` with `ctx.fail(code)` for `None`, or `unwrap_or(value)`")
        }
        "wrapping_div" | "wrapping_rem" | "saturating_div" => {
            Method::Refused("it panics on a zero divisor: write `/` or `%`, which fail the actor, or `checked_div`")
        }
        "clone" | "to_owned" | "copied" | "cloned" => Method::Refused("plain data is `Copy`: leave the call out"),
        "iter" | "iter_mut" | "into_iter" | "enumerate" | "map" | "filter" | "fold" | "sum" | "rev" | "step_by"
        | "zip" => Method::Refused("there are no iterators: write `for x in self.array` or `for i in 0..n`"),
        "push" | "pop" | "insert" | "remove" | "extend" => {
            Method::Refused("there is no allocation: use an array in the state and a count")
        }
        "to_string" | "as_str" | "as_bytes" | "chars" => Method::Refused("there is no text: use numbers"),
        "into" | "try_into" | "try_from" => Method::Refused("write the type: `x as u64` or `u64::from(x)`"),
        "get" | "get_mut" | "first" | "last" => Method::Refused("write `array[index]`: a bad index fails the actor"),
        "exp" => Method::Refused("its last bits differ between CPU and GPU: write `math::exp(x)`"),
        "ln" => Method::Refused("its last bits differ between CPU and GPU: write `math::ln(x)`"),
        "sin" => Method::Refused("its last bits differ between CPU and GPU: write `math::sin(x)`"),
        "cos" => Method::Refused("its last bits differ between CPU and GPU: write `math::cos(x)`"),
        "powf" | "powi" => Method::Refused("its last bits differ between CPU and GPU: write `math::pow(x, y)`"),
        "log" | "log2" | "log10" | "tan" | "exp2" | "cbrt" | "hypot" | "atan2" | "tanh" => {
            Method::Refused("its last bits differ between CPU and GPU: write it with `math::{exp, ln, sin, cos, pow}`")
        }
        _ => Method::Refused(
            "there are the methods of numbers that cannot panic (`wrapping_*`, `checked_*`, `saturating_*`, `min`, `max`, \
             `abs`, `pow`, `leading_zeros`, `sqrt`, ..) and the helpers of this impl",
        ),
    }
}
