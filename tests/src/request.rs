//! An HTTP request as a stranger makes it: a connection, a text, an answer.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a start, or an answer to a request, may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

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

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, and the query.
    pub path: &'a str,
    /// Extra header lines, each ended by CR LF.
    pub headers: &'a str,
    /// The body.
    pub body: &'a str,
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
    let request = Request {
        method,
        path,
        headers,
        body,
    };
    let exchange = async {
        let socket = TcpStream::connect(host).await?;
        exchange(socket, &host.to_string(), request).await
    };
    timeout(PATIENCE, exchange)
        .await
        .map_err(std::io::Error::other)?
}

/// One request to a host on a connection, which ends with it.
///
/// # Errors
/// No answer comes.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    request: Request<'_>,
) -> std::io::Result<Answer> {
    let Request {
        method,
        path,
        headers,
        body,
    } = request;
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        // Not all who speak TLS take their leave in it.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let text = String::from_utf8_lossy(&answer);
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
