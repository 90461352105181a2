//! Cryptography whose keys come from the seed.
//!
//! What a packet says is encrypted, and now and then its bytes decide: a packet of a connection that is gone is taken for a new one
//! or not by what its protected bits happen to be. So keys, nonces and identifiers of a run come from its seed. The cipher suites and
//! signatures are those of the shipped code; the key exchange is one over a small field, as nobody listens.

use std::cell::RefCell;

use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup, ring,
};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use crate::rng::{Purpose, Rng};

thread_local! {
    static RANDOM: RefCell<Rng> = RefCell::new(Rng::new(0, Purpose::Keys));
}

/// From now on the keys made on this thread come from this seed. The first call makes this the cryptography of the process.
pub fn seed(seed: u64) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let provider =
            CryptoProvider { kx_groups: vec![&SmallField], secure_random: &Seeded, ..ring::default_provider() };
        // Somebody else's would make runs differ; the determinism tests would say so.
        let _ = provider.install_default();
    });
    RANDOM.set(Rng::new(seed, Purpose::Keys));
}

fn next() -> u64 {
    RANDOM.with_borrow_mut(Rng::draw)
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

/// The field of the integers modulo this prime, and a generator.
const PRIME: u64 = (1 << 61) - 1;
const GENERATOR: u64 = 37;
/// Bytes of a public key: those of X25519, so that packets have their usual lengths.
const KEY_BYTES: usize = 32;

fn power(base: u64, mut exponent: u64) -> u64 {
    let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64;
    let (mut result, mut square) = (1, base % PRIME);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    result
}

#[derive(Debug)]
struct SmallField;

impl SupportedKxGroup for SmallField {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = next() % PRIME;
        let mut public = [0; KEY_BYTES];
        public[..8].copy_from_slice(&power(GENERATOR, secret).to_le_bytes());
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    secret: u64,
    public: [u8; KEY_BYTES],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        let (Some(theirs), KEY_BYTES) = (theirs.first_chunk::<8>(), theirs.len()) else {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        };
        let shared = power(u64::from_le_bytes(*theirs), self.secret);
        Ok(SharedSecret::from(&[shared.to_le_bytes(); 4].concat()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_an_exchange_have_one_secret_that_the_seed_decides() {
        let exchange = || {
            seed(5);
            let (a, b) = (SmallField.start().unwrap(), SmallField.start().unwrap());
            let (of_a, of_b) = (a.pub_key().to_vec(), b.pub_key().to_vec());
            let (one, other) = (a.complete(&of_b).unwrap(), b.complete(&of_a).unwrap());
            assert_eq!(one.secret_bytes(), other.secret_bytes());
            one.secret_bytes().to_vec()
        };
        assert_eq!(exchange(), exchange());
    }
}
