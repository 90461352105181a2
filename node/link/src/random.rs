//! What quinn draws at random, drawn from the [`Env`].

use std::{sync::Arc, time::Duration};

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, crypto::HandshakeTokenKey};
use ring::{hkdf, hmac};
use ringfleet_env::Env;

/// Bytes of the identifier that a dialler gives to a connection at first.
const FIRST_CID_BYTES: usize = 20;
/// Bytes of an identifier of the own connections.
const CID_BYTES: usize = 8;

/// Settings of an endpoint with keys of its own.
pub(crate) fn endpoint_config(env: &Env) -> EndpointConfig {
    let (mut seed, mut reset_key) = ([0; 32], [0; 64]);
    env.fill_random(&mut seed);
    env.fill_random(&mut reset_key);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    let env = env.clone();
    config.cid_generator(move || Box::new(ConnectionIds(env.clone())));
    config.rng_seed(Some(seed));
    config
}

/// The key of a listener's address validation tokens.
pub(crate) fn token_key(env: &Env) -> Arc<dyn HandshakeTokenKey> {
    let mut key = [0; 64];
    env.fill_random(&mut key);
    Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&key))
}

/// The identifier that a dialler gives to a connection at first.
pub(crate) fn random_cid(env: &Env) -> ConnectionId {
    let mut bytes = [0; FIRST_CID_BYTES];
    env.fill_random(&mut bytes);
    ConnectionId::new(&bytes)
}

/// Identifiers of the own connections.
struct ConnectionIds(Env);

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CID_BYTES];
        self.0.fill_random(&mut bytes);
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
