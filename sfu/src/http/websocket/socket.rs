//! One open signalling socket, from its first message to its close.
//!
//! Owns the WebSocket and its clocks: pings, the deadline of writing, the flush before closing. What
//! is said, and when, is decided by `signal::session` and the room. Spawned by `http/websocket`.
//! (LK: signalling §3)

use crate::config::faults::Point;
use crate::faults::Faults;
use crate::http::connection::Place;
use crate::metrics::{JoinState, Metrics, SignalDirection};
use crate::rooms::{Attached, Said, unix_ms};
use crate::signal::outbox::{Outbox, Overflow};
use crate::signal::session::{HearError, SayError, Session};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{SinkExt, StreamExt};
use proto::signal::{Frame, FrameBuf, FrameRef};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::{debug, warn};

/// How often the socket is pinged, which also keeps proxies from closing it.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How long a ping, and all that was queued before it, may take to be written.
const WRITE_WITHIN: Duration = Duration::from_secs(2);

/// How long what must still be written may take to leave before the socket is closed.
const FLUSH_WITHIN: Duration = Duration::from_millis(250);

/// How long the client may take to answer our close. Dropping the connection with unread bytes in
/// it would make the kernel throw away what the client has not read yet.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long a client that was told to resume has to close the connection itself, before we do. A
/// connection that is closed under a resume is a second failure to some: the Rust SDK then starts over.
const RESUMES_WITHIN: Duration = Duration::from_secs(3);

/// A session with its way to the room.
pub(super) struct Line {
    attached: Attached,
    session: Session,
    /// Held until the socket is closed; `None` outside a listener.
    place: Option<Place>,
}

impl Line {
    pub(super) const fn new(attached: Attached, session: Session, place: Option<Place>) -> Self {
        Self {
            attached,
            session,
            place,
        }
    }
}

/// Why the socket is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The room let go of the session.
    Room,
    /// The client closed it, and is owed an answer.
    Client,
    /// The connection broke.
    Lost,
    /// The client sent what is no request.
    BadFrame,
    /// The client asks for more than any client does.
    Flood,
    /// The client does not read.
    Slow,
    /// The room said something that may not come first.
    OutOfOrder,
}

/// Runs the socket until it ends. `first` was written by the session already.
pub(super) async fn run(
    websocket: WebSocket,
    mut line: Line,
    first: FrameBuf,
    (metrics, faults): (Metrics, Faults),
) {
    let mut wire = Wire::new(websocket, faults);
    let place = line.place.take();
    let end = if wire.outbox.push(first).is_ok() && wire.flush().await {
        metrics.signal_message(SignalDirection::Response, true);
        serve(&mut wire, &mut line, &metrics).await
    } else {
        metrics.join_state(JoinState::SignalWriteInitialResponseFailed);
        End::Lost
    };
    debug!(?end, "signal socket ends");
    if end == End::Slow {
        metrics.limit_reached("signal_outbox");
    } else if end == End::Flood {
        metrics.limit_reached("signal_requests");
    }
    let sent_back = line.session.is_sent_back();
    // The room hears of the loss now, not after the farewell.
    drop(line);
    let end = match end {
        End::Room if sent_back => wire.closed_by_client().await.unwrap_or(End::Room),
        end => end,
    };
    match end {
        End::Client => wire.answer_close().await,
        End::Lost => {}
        End::Room | End::BadFrame | End::Flood | End::Slow | End::OutOfOrder => wire.close().await,
    }
    drop(place);
}

async fn serve(wire: &mut Wire, line: &mut Line, metrics: &Metrics) -> End {
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let write_by = wire.write_by;
        let done = tokio::select! {
            said = line.attached.next() => say(wire, line, said, metrics),
            heard = poll_fn(|cx| wire.poll(cx)) => {
                let speaks = matches!(heard, Some(Message::Text(_) | Message::Binary(_)));
                let end = hear(wire, line, heard).await;
                if speaks {
                    let understood = end != Some(End::BadFrame);
                    metrics.signal_message(SignalDirection::Request, understood);
                }
                end
            }
            _ = pings.tick() => {
                wire.ping(Instant::now());
                None
            }
            // Writing may have finished meanwhile, which lifts the deadline.
            () = until(write_by) => wire.write_by.map(|_| End::Slow),
        };
        if let Some(end) = done {
            return end;
        }
    }
}

/// Queues what the room says.
fn say(wire: &mut Wire, line: &mut Line, said: Option<Said>, metrics: &Metrics) -> Option<End> {
    let Some(Said::Message(message)) = said else {
        return Some(End::Room);
    };
    let (success, end) = match line.session.say(*message) {
        Ok(frame) => {
            let end = frame.and_then(|frame| wire.queue(frame));
            (end.is_none(), end)
        }
        Err(SayError::NotAJoin) => (false, Some(End::OutOfOrder)),
        // Closing would not help: a client that resumes is told the same again.
        Err(SayError::Unwritable(error)) => {
            warn!(%error, "signal message left out");
            (false, None)
        }
    };
    metrics.signal_message(SignalDirection::Response, success);
    end
}

/// Answers or passes on what the client says.
async fn hear(wire: &mut Wire, line: &mut Line, heard: Option<Message>) -> Option<End> {
    let message = match heard {
        None => return Some(End::Lost),
        Some(_) if wire.faults.strike(Point::WebsocketBreak) => return Some(End::Lost),
        Some(Message::Close(_)) => return Some(End::Client),
        Some(message) => message,
    };
    let frame: FrameRef<'_> = match &message {
        Message::Text(text) => Frame::Text(text.as_str()),
        Message::Binary(bytes) => Frame::Binary(bytes),
        // The WebSocket layer has queued the pong.
        Message::Ping(_) => {
            wire.unflushed = true;
            return None;
        }
        Message::Pong(_) | Message::Close(_) => return None,
    };
    let now_ms = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
    let heard = match line.session.handle_frame(&frame, now_ms) {
        Ok(heard) => heard,
        Err(HearError::Frame(_)) => return Some(End::BadFrame),
        Err(HearError::Flood) => return Some(End::Flood),
    };
    if let Some(request) = heard.request {
        line.attached.request(request).await;
    }
    let Ok(reply) = heard
        .reply
        .map_or(Ok(None), |reply| line.session.say(reply))
    else {
        return Some(End::OutOfOrder);
    };
    reply.and_then(|frame| wire.queue(frame))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The WebSocket with what waits to be written. Reading and writing go on side by side: a client
/// that does not read is still heard, and the other way round.
struct Wire {
    websocket: WebSocket,
    outbox: Outbox,
    /// The socket holds bytes that are not with the kernel yet.
    unflushed: bool,
    /// A ping waits behind what is being written.
    ping_waits: bool,
    /// When a ping must have been written.
    write_by: Option<Instant>,
    faults: Faults,
}

impl Wire {
    fn new(websocket: WebSocket, faults: Faults) -> Self {
        Self {
            websocket,
            outbox: Outbox::default(),
            unflushed: false,
            ping_waits: false,
            write_by: None,
            faults,
        }
    }

    /// Queues a frame; an end if too much waits already.
    fn queue(&mut self, frame: FrameBuf) -> Option<End> {
        let pushed = if self.faults.strike(Point::SignalOutboxFull) {
            Err(Overflow)
        } else {
            self.outbox.push(frame)
        };
        pushed.err().map(|Overflow| End::Slow)
    }

    fn ping(&mut self, now: Instant) {
        self.ping_waits = true;
        self.write_by.get_or_insert(now + WRITE_WITHIN);
    }

    /// Writes what can be written and reads one message; `None` if the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if let Poll::Ready(false) = self.poll_write(cx) {
            return Poll::Ready(None);
        }
        self.websocket
            .poll_next_unpin(cx)
            .map(|message| message.and_then(Result::ok))
    }

    /// Ready with true once all is with the kernel, with false if the connection is over.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.ping_waits || !self.outbox.is_empty() {
            match self.websocket.poll_ready_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => {}
            }
            let Some(message) = self.following() else {
                break;
            };
            if self.websocket.start_send_unpin(message).is_err() {
                return Poll::Ready(false);
            }
            self.unflushed = true;
        }
        if self.unflushed {
            match self.websocket.poll_flush_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => self.unflushed = false,
            }
        }
        self.write_by = None;
        Poll::Ready(true)
    }

    /// The message to write next; a ping overtakes what waits, as it asks about the connection.
    fn following(&mut self) -> Option<Message> {
        if std::mem::take(&mut self.ping_waits) {
            return Some(Message::Ping(Vec::new().into()));
        }
        Some(match self.outbox.pop()? {
            Frame::Binary(bytes) => Message::Binary(bytes.into()),
            Frame::Text(text) => Message::Text(text.into()),
        })
    }

    /// Writes all that waits; false if it cannot be.
    async fn flush(&mut self) -> bool {
        let flushed = timeout(WRITE_WITHIN, poll_fn(|cx| self.poll_write(cx)));
        flushed.await.unwrap_or(false)
    }

    /// Writes what waits, and lets the client close; what it says meanwhile is for nobody. `None` if it
    /// does not in time.
    async fn closed_by_client(&mut self) -> Option<End> {
        let closed = async {
            loop {
                match poll_fn(|cx| self.poll(cx)).await {
                    None => return End::Lost,
                    Some(Message::Close(_)) => return End::Client,
                    Some(_) => {}
                }
            }
        };
        timeout(RESUMES_WITHIN, closed).await.ok()
    }

    /// Writes the answer to the client's close, behind what was begun; what waits is dropped, as
    /// nothing may follow a close. (RFC 6455 §5.5.1)
    async fn answer_close(mut self) {
        // The WebSocket layer has made the answer, writes it when asked to read, and then ends.
        let answer = async { while let Some(Ok(_)) = self.websocket.next().await {} };
        let _ = timeout(FLUSH_WITHIN, answer).await;
    }

    /// Says farewell: what waits, then close 1000, then the client's close is waited for.
    async fn close(mut self) {
        let farewell = async {
            if !poll_fn(|cx| self.poll_write(cx)).await {
                return false;
            }
            let close = CloseFrame {
                code: close_code::NORMAL,
                reason: "".into(),
            };
            self.websocket
                .send(Message::Close(Some(close)))
                .await
                .is_ok()
        };
        if timeout(FLUSH_WITHIN, farewell).await.unwrap_or(false) {
            let answer = async { while let Some(Ok(_)) = self.websocket.next().await {} };
            let _ = timeout(CLOSE_WITHIN, answer).await;
        }
    }
}
