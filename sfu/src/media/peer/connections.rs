//! The associations of one peer with its client: one for both directions, or one for each.
//!
//! Owns which of them a direction takes. It sends and receives nothing. Called by the plane.

use crate::media::message::{Channel, Side};
use crate::media::transport::ice::Credentials;
use crate::media::transport::negotiation::Local;
use crate::media::transport::{Change, Transport};
use bytes::Bytes;

/// One association: its transport and what its descriptions have in common.
#[derive(Debug)]
pub struct Connection {
    /// ICE, DTLS, SRTP.
    pub transport: Transport,
    /// The client has been told our credentials.
    pub described: bool,
    session_id: u64,
}

impl Connection {
    /// A connection nothing has been said of; `session_id` is for its `o=` lines.
    #[must_use]
    pub const fn new(transport: Transport, session_id: u64) -> Self {
        Self {
            transport,
            described: false,
            session_id,
        }
    }

    /// Our side of the next description, with the credentials it is to tell.
    #[must_use]
    pub fn local(&self, credentials: &Credentials, candidates: Vec<String>) -> Local {
        Local {
            ufrag: credentials.ufrag.clone(),
            pwd: credentials.pwd.clone(),
            fingerprint: self.transport.fingerprint().to_owned(),
            candidates,
            session_id: self.session_id,
        }
    }
}

/// The connections of a peer.
#[derive(Debug)]
pub struct Connections {
    publisher: Connection,
    /// Boxed: most peers have none.
    subscriber: Option<Box<Connection>>,
}

impl Connections {
    /// Both directions over `publisher`, or what we send over a connection of its own.
    #[must_use]
    pub fn new(publisher: Connection, subscriber: Option<Connection>) -> Self {
        Self {
            publisher,
            subscriber: subscriber.map(Box::new),
        }
    }

    /// What the client sends comes by this one.
    pub const fn up(&mut self) -> &mut Connection {
        &mut self.publisher
    }

    /// What we send goes by this one.
    pub fn down(&mut self) -> &mut Connection {
        match &mut self.subscriber {
            Some(subscriber) => subscriber,
            None => &mut self.publisher,
        }
    }

    /// Which that is.
    #[must_use]
    pub const fn down_side(&self) -> Side {
        match self.subscriber {
            Some(_) => Side::Subscriber,
            None => Side::Publisher,
        }
    }

    /// Data messages go by this one.
    pub fn data_down(&mut self) -> &mut Connection {
        match self.data_side() {
            Side::Publisher => &mut self.publisher,
            Side::Subscriber => self.down(),
        }
    }

    /// The side of the connection by which data messages go: the subscriber's if we open channels
    /// on it, else that on which the client does. (LK: signalling §6.9)
    #[must_use]
    pub fn data_side(&self) -> Side {
        match &self.subscriber {
            Some(subscriber) if subscriber.transport.opens_channels() => Side::Subscriber,
            _ => Side::Publisher,
        }
    }

    /// The client's next data message.
    pub fn read_data(&mut self) -> Option<(Channel, Bytes)> {
        self.iter_mut()
            .find_map(|(_, connection)| connection.transport.channels_mut()?.read())
    }

    /// Media can be sent to the client.
    #[must_use]
    pub fn can_send(&self) -> bool {
        let down = self.subscriber.as_deref().unwrap_or(&self.publisher);
        down.transport.is_connected()
    }

    /// The connection of a side, if the peer has one of its own for it.
    pub fn at(&mut self, side: Side) -> Option<&mut Connection> {
        match side {
            Side::Publisher => Some(&mut self.publisher),
            Side::Subscriber => self.subscriber.as_deref_mut(),
        }
    }

    /// Every connection with its side.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Side, &mut Connection)> {
        let subscriber = self.subscriber.as_deref_mut();
        std::iter::once((Side::Publisher, &mut self.publisher))
            .chain(subscriber.map(|connection| (Side::Subscriber, connection)))
    }

    /// What changed at any of them; to be asked until there is nothing.
    pub fn poll_change(&mut self) -> Option<(Side, Change)> {
        self.iter_mut()
            .find_map(|(side, connection)| Some((side, connection.transport.poll_change()?)))
    }

    /// Every connection.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        std::iter::once(&self.publisher).chain(self.subscriber.as_deref())
    }
}
