//! More than a thousand random handlers do the same natively, as programs in the interpreter, and as device code compiled for the host:
//! states, sends and faults, bit for bit.
#![allow(missing_docs)]

#[path = "../../../kernels/actors/tests/device_code/compare.rs"]
mod compare;
#[path = "../../../kernels/actors/tests/device_code/host.rs"]
mod host;

use compare::compare;

/// Types per translation unit.
const PART: usize = 8;

#[test]
fn random_handlers_do_the_same_everywhere() {
    let types = ringfleet_program_tests::types();
    let handlers: usize = types.iter().map(|ty| ty.kinds.len()).sum();
    assert!(handlers >= 1_000, "{handlers} handlers");
    let (mut handled, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        let (first, second) = types.chunks(PART).enumerate().partition::<Vec<_>, _>(|(at, _)| at % 2 == 0);
        let run = |parts: Vec<(usize, &[_])>| {
            let done = parts.into_iter().map(|(at, part)| {
                compare(&format!("random_{at}"), part, 60 * part.len(), 7 + at as u64).unwrap_or_default()
            });
            done.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let other = scope.spawn(move || run(second));
        let (own, other) = (run(first), other.join().expect("the same"));
        (handled, failed) = (own.0 + other.0, own.1 + other.1);
    });
    println!("{handlers} handlers, {handled} messages handled, {failed} streams ended in a fault");
}
