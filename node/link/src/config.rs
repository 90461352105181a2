//! Limits of links, and quinn's transport made of them.

use std::{sync::Arc, time::Duration};

use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::CubicConfig,
};
use ringfleet_env::Env;

/// The largest frame. A larger one is refused by its sender, and by its receiver before a byte of it
/// is allocated. The largest control message, a view of a whole cluster, fits.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Frames up to this size travel without a wait for the receiver's window; larger ones, which are rare, take more round trips.
const FRAME_BYTES_FAST: usize = 1 << 20;

/// The largest UDP payload that fits every Ethernet, over IPv4 and IPv6.
pub const MTU_BYTES_ETHERNET: u16 = 1452;

/// The smallest UDP payload that QUIC works with.
pub const MTU_BYTES_MIN: u16 = 1200;

/// The UDP payload used on the loopback interface, which carries 65,507 bytes. Half of that needs half
/// the receive buffer and is as fast.
pub const MTU_BYTES_LOOPBACK: u16 = 32_768;

/// Above this size of datagram a batch of ten would not fit the kernel's largest send, so batching
/// has to be off.
const MTU_BYTES_SEGMENTED_MAX: u16 = 6500;

/// Assumed round trip before one is measured: a lost first packet is sent again after three times
/// this, where the internet's assumption would make that a second.
const INITIAL_RTT: Duration = Duration::from_millis(20);

/// First congestion window, also after a long silence: a LAN takes this much at once, and a few
/// frames need no second round trip.
const INITIAL_WINDOW_BYTES: u64 = 256 * 1024;

/// The receiver may wait for this many packets before it acknowledges: at two packets, as QUIC does by
/// itself, acknowledgements are a quarter of the work of a loaded link.
const ACK_PACKETS: u32 = 16;

/// ... but not longer than this, so that loss is noticed and windows move.
const ACK_DELAY_MAX: Duration = Duration::from_millis(2);

/// Packets that may overtake another before that one counts as lost: a batch may be received by
/// another queue than the next.
const REORDERING_PACKETS: u32 = 8;

/// Settings of an endpoint. Each field says what it trades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// A connection that hears nothing for this long is closed. Short finds a dead peer early, long
    /// rides out a pause of the network without a reconnect.
    pub idle_timeout: Duration,
    /// A silent connection sends a packet this often. Several must fit `idle_timeout`.
    pub keep_alive: Duration,
    /// A listener gives up a handshake that takes longer, so that half-open ones are bounded in time.
    pub handshake_limit: Duration,
    /// Handshakes a listener has under way; further ones are refused as busy at once.
    pub handshakes_max: usize,
    /// Admitted connections that wait for [`Listener::accept`](crate::Listener::accept); handshakes
    /// wait (within their limit) when it is full.
    pub backlog_max: usize,
    /// Streams the peer may have open at a time; opening another one waits. Bounds the requests that
    /// one peer has in work here.
    pub streams_max: u32,
    /// Bytes of one stream the peer may have under way or unread here: throughput of one stream is
    /// at most this per round trip, memory for a stream nobody reads at most this, and so long is the
    /// queue that a new frame finds under full load.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together; larger than a stream's, so that one
    /// unread stream does not block the others.
    pub connection_window_bytes: u32,
    /// Bytes accepted from the writers of all streams and not yet acknowledged; more makes writers
    /// wait. Larger than a stream's window, which then stops a busy writer first: writers that wait
    /// for this one do not take turns, and one of them could starve the others.
    pub send_window_bytes: u32,
    /// Size of datagrams at first. More than the network carries costs a failed start.
    pub mtu_bytes_initial: u16,
    /// Size of datagrams that is tried upwards. More than the network carries costs a few probes.
    pub mtu_bytes_max: u16,
}

impl LinkConfig {
    /// For machines in one network.
    pub const DEFAULTS: Self = Self {
        idle_timeout: Duration::from_secs(10),
        keep_alive: Duration::from_secs(2),
        handshake_limit: Duration::from_secs(5),
        handshakes_max: 256,
        backlog_max: 64,
        streams_max: 256,
        stream_window_bytes: 2 << 20,
        connection_window_bytes: 16 << 20,
        send_window_bytes: 8 << 20,
        mtu_bytes_initial: MTU_BYTES_MIN,
        mtu_bytes_max: MTU_BYTES_ETHERNET,
    };

    /// For processes of one machine, where a datagram may be as large as the loopback interface
    /// takes.
    pub const LOOPBACK: Self =
        Self { mtu_bytes_initial: MTU_BYTES_LOOPBACK, mtu_bytes_max: MTU_BYTES_LOOPBACK, ..Self::DEFAULTS };

    /// [`LinkConfig::LOOPBACK`] for a loopback address, else [`LinkConfig::DEFAULTS`].
    pub const fn for_addr(addr: std::net::IpAddr) -> Self {
        if addr.is_loopback() { Self::LOOPBACK } else { Self::DEFAULTS }
    }

    /// What is wrong with it, in one line.
    pub fn check(&self) -> Result<(), String> {
        if self.keep_alive.saturating_mul(2) > self.idle_timeout {
            return Err(format!(
                "keep_alive {:?} must be at most half of idle_timeout {:?}",
                self.keep_alive, self.idle_timeout
            ));
        }
        if self.mtu_bytes_initial < MTU_BYTES_MIN || self.mtu_bytes_max < self.mtu_bytes_initial {
            return Err(format!(
                "mtu_bytes_initial {} must lie between {MTU_BYTES_MIN} and mtu_bytes_max {}",
                self.mtu_bytes_initial, self.mtu_bytes_max
            ));
        }
        if self.mtu_bytes_max > 65_507 {
            return Err(format!("mtu_bytes_max {} is more than a datagram holds", self.mtu_bytes_max));
        }
        if (self.stream_window_bytes as usize) < 2 * FRAME_BYTES_FAST
            || self.connection_window_bytes < self.stream_window_bytes
        {
            return Err(format!(
                "stream_window_bytes {} must hold two frames of {FRAME_BYTES_FAST} and fit connection_window_bytes {}",
                self.stream_window_bytes, self.connection_window_bytes
            ));
        }
        if self.send_window_bytes < 2 * self.stream_window_bytes {
            return Err(format!(
                "send_window_bytes {} must be at least twice stream_window_bytes {}",
                self.send_window_bytes, self.stream_window_bytes
            ));
        }
        if self.streams_max == 0 || self.handshakes_max == 0 || self.backlog_max == 0 || self.send_window_bytes == 0 {
            return Err("streams_max, handshakes_max, backlog_max and send_window_bytes must be above zero".to_owned());
        }
        Ok(())
    }

    /// Quinn's settings, all of those that matter, for a connection that takes `uni_streams` one-way
    /// streams.
    pub(crate) fn transport(&self, uni_streams: u32) -> Arc<TransportConfig> {
        let idle = IdleTimeout::try_from(self.idle_timeout).unwrap_or(VarInt::from_u32(u32::MAX).into());
        let mut congestion = CubicConfig::default();
        congestion.initial_window(INITIAL_WINDOW_BYTES);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.mtu_bytes_max);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(ACK_PACKETS))
            .max_ack_delay(Some(ACK_DELAY_MAX))
            .reordering_threshold(VarInt::from_u32(REORDERING_PACKETS - 1));
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .max_concurrent_bidi_streams(self.streams_max.into())
            .max_concurrent_uni_streams(uni_streams.into())
            .stream_receive_window(self.stream_window_bytes.into())
            .receive_window(self.connection_window_bytes.into())
            .send_window(self.send_window_bytes.into())
            // Streams take turns: without this a stream that always has data starves all others.
            .send_fairness(true)
            .initial_rtt(INITIAL_RTT)
            .initial_mtu(self.mtu_bytes_initial)
            .mtu_discovery_config((self.mtu_bytes_max > self.mtu_bytes_initial).then_some(discovery))
            .packet_threshold(REORDERING_PACKETS)
            .ack_frequency_config(Some(acks))
            .congestion_controller_factory(Arc::new(congestion))
            .enable_segmentation_offload(self.mtu_bytes_max <= MTU_BYTES_SEGMENTED_MAX)
            // Nothing here is sent as a datagram that may get lost.
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            // Outsiders learn no round trip times.
            .allow_spin(false);
        Arc::new(transport)
    }

    /// Quinn's settings of the whole endpoint.
    pub(crate) fn endpoint(&self, env: &Env) -> EndpointConfig {
        let mut config = crate::random::endpoint_config(env);
        let payload = config.max_udp_payload_size(self.mtu_bytes_max.max(MTU_BYTES_ETHERNET + 20));
        assert!(payload.is_ok(), "check() bounds the datagram size to what quinn takes");
        config
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::DEFAULTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_presets_are_good_and_bad_settings_are_named() {
        LinkConfig::DEFAULTS.check().unwrap();
        LinkConfig::LOOPBACK.check().unwrap();
        assert_eq!(LinkConfig::for_addr([127, 0, 0, 1].into()), LinkConfig::LOOPBACK);
        assert_eq!(LinkConfig::for_addr([10, 0, 0, 1].into()), LinkConfig::DEFAULTS);
        let bad = LinkConfig { keep_alive: Duration::from_secs(8), ..LinkConfig::DEFAULTS };
        assert!(bad.check().unwrap_err().starts_with("keep_alive 8s"));
        let bad = LinkConfig { mtu_bytes_initial: 100, ..LinkConfig::DEFAULTS };
        assert!(bad.check().unwrap_err().starts_with("mtu_bytes_initial 100"));
        let bad = LinkConfig { stream_window_bytes: 1000, ..LinkConfig::DEFAULTS };
        assert!(bad.check().unwrap_err().starts_with("stream_window_bytes 1000"));
    }
}
