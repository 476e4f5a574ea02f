//! An HTTP request as a stranger makes it: a connection, a text, an answer.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a start, or an answer to a request, may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header block, as sent.
    pub head: String,
    /// The body.
    pub body: String,
}

/// One request with extra header lines, on a connection of its own.
///
/// # Errors
/// No answer comes.
pub async fn request(
    host: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<Answer> {
    let exchange = async {
        let mut socket = TcpStream::connect(host).await?;
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n{body}"
        );
        socket.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = timeout(PATIENCE, exchange)
        .await
        .map_err(std::io::Error::other)??;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked {
        unchunked(body)
    } else {
        body.to_owned()
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Ok(Answer {
        status,
        head: head.to_owned(),
        body,
    })
}

/// A body in pieces, each after its length in hexadecimal. (RFC 9112 §7.1)
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let piece = usize::from_str_radix(length, 16).ok();
        let Some(piece) = piece.and_then(|length| after.get(..length)) else {
            break;
        };
        body += piece;
        rest = after[piece.len()..].trim_start_matches("\r\n");
    }
    body
}
