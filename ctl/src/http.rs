//! One HTTP GET, for the `/metrics` and `/readyz` pages of our own processes. No redirects, no TLS, no keep-alive.

use std::time::Duration;

use ringfleet_env::Env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{CtlError, CtlResult};

/// Bytes of a page. A longer one is an error.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// The body of `http://<addr><path>`, if the answer is 200.
pub async fn get(env: &Env, addr: &str, path: &str, patience: Duration) -> CtlResult<String> {
    let attempt = format!("reading http://{addr}{path}");
    let fetch = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        stream.take(PAGE_BYTES_MAX).read_to_end(&mut reply).await?;
        Ok::<_, std::io::Error>(reply)
    };
    let reply = match env.timeout(patience, fetch).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(CtlError::unreachable(attempt, error)),
        Err(elapsed) => return Err(CtlError::unreachable(attempt, elapsed)),
    };
    body(&reply).map_err(|cause| CtlError::failed(attempt, cause))
}

/// The body of a whole reply.
///
/// # Errors
/// What is wrong with the reply, or its status if that is not 200.
pub fn body(reply: &[u8]) -> Result<String, String> {
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("the answer is cut short")?;
    let (head, body) = (String::from_utf8_lossy(&reply[..end]), &reply[end + 4..]);
    let text = String::from_utf8_lossy(body);
    let status = head.split_whitespace().nth(1).unwrap_or("");
    if status != "200" {
        return Err(format!("status {status}: {}", text.lines().next().unwrap_or("")));
    }
    let header = |name: &str| {
        let line = head.lines().find(|line| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name)));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        return dechunk(&text).ok_or_else(|| "the chunks of the answer are cut short".to_owned());
    }
    match header("content-length").and_then(|value| value.parse::<usize>().ok()) {
        Some(bytes) if body.len() < bytes => Err(format!("the answer is cut short: {} of {bytes} bytes", body.len())),
        _ => Ok(text.into_owned()),
    }
}

fn dechunk(mut rest: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_found_plain_and_in_chunks() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").as_deref(), Ok("hi"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\n ho\r\n0\r\n\r\n";
        assert_eq!(body(chunked).as_deref(), Ok("hi ho"));
        assert_eq!(body(b"HTTP/1.1 503 No\r\n\r\nnot joined").unwrap_err(), "status 503: not joined");
        assert!(body(b"HTTP/1.1 200").is_err());
        let short = body(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi").unwrap_err();
        assert_eq!(short, "the answer is cut short: 2 of 3 bytes");
    }
}
