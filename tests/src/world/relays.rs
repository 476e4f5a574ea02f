//! What clients of the world have with TURN servers, and by TCP connections: how they come to be,
//! what goes by them, how they end.

use super::access::{Access, Way};
use super::client::Leg;
use super::invariants::{Broken, Invariant};
use super::streams::{End, KNOCK_AGAIN, State, Stream};
use super::turn::Output;
use super::turning::{Habit, Turning};
use super::{Event, World, checks};
use sfu::media::demux::Carrier;
use sfu::media::message::PathTransport;
use std::net::SocketAddr;
use std::time::Duration;
use turn::address::{AllocationId, Client, Transport};
use turn::message::attribute::DATA;
use turn::message::{Class, Message, Method};

/// The other end hears of a connection's end after so long.
const CLOSE_DELAY: Duration = Duration::from_millis(20);
/// Bytes of a segment without data.
const EMPTY_BYTES: usize = 12;

/// What a message to a TURN server carries, if anything.
fn carried(message: &[u8]) -> Option<&[u8]> {
    if let [0x40..=0x4F, _, high, low, data @ ..] = message {
        return data.get(..usize::from(u16::from_be_bytes([*high, *low])));
    }
    let parsed = Message::parse(message).ok()?;
    let sends = (parsed.method, parsed.class) == (Some(Method::Send), Class::Indication);
    parsed.attribute(DATA).filter(|_| sends)
}

impl World {
    /// Somebody has new addresses.
    pub(super) fn settle_in(&mut self, who: usize) {
        let seat = &mut self.seats[who];
        for leg in Leg::BOTH {
            let access = &seat.access[leg.place()];
            let seen = (seat.server, Carrier::Udp(0), access.address);
            self.seen.insert(seen, (who, leg));
            seat.client.set_priority(leg, access.way.priority());
        }
    }

    /// From now on it goes another way to its server, and checks that at once.
    pub fn go_by(&mut self, who: usize, way: Way) {
        self.part(who);
        for leg in Leg::BOTH {
            self.seats[who].access[leg.place()] = Access::new(way, self.address(who));
        }
        self.settle_in(who);
        self.seats[who].losses.unsure(self.now);
        self.seats[who].client.check(self.now);
        self.carry_from_client(who);
    }

    /// Its router forgets it: what it sends comes from elsewhere. TCP breaks by that.
    pub fn rebind(&mut self, who: usize) {
        for leg in Leg::BOTH {
            let access = &self.seats[who].access[leg.place()];
            let (way, stream) = (access.way, access.stream);
            if let Some(number) = stream {
                self.close_stream(number);
            }
            let address = self.address(who);
            let access = &mut self.seats[who].access[leg.place()];
            (access.way, access.address) = (way, address);
        }
        self.settle_in(who);
        self.seats[who].losses.unsure(self.now);
    }

    /// Its TCP connections break, which both ends learn at once.
    pub fn cut(&mut self, who: usize) {
        for leg in Leg::BOTH {
            if let Some(number) = self.seats[who].access[leg.place()].stream {
                self.close_stream(number);
            }
        }
        self.seats[who].losses.unsure(self.now);
        self.seats[who].client.check(self.now);
        self.carry_from_client(who);
    }

    /// Its client of TURN keeps nothing alive for a while.
    pub fn neglect(&mut self, who: usize, span: Duration) {
        let end = self.now + span;
        let access = self.seats[who].access.iter_mut();
        access
            .filter_map(|access| access.turn.as_mut())
            .for_each(|turn| turn.sleep_until(end));
        self.seats[who].losses.unsure(end);
    }

    /// It has no more use for what it has: allocations end, connections close.
    pub(super) fn part(&mut self, who: usize) {
        for leg in Leg::BOTH {
            if let Some(turn) = &mut self.seats[who].access[leg.place()].turn {
                turn.end(self.now);
            }
            self.send_turning(who, leg);
            let access = &mut self.seats[who].access[leg.place()];
            access.turn = None;
            if let Some(number) = access.stream.take() {
                self.put(self.now + CLOSE_DELAY, Event::Closed(number));
            }
        }
    }

    // TCP

    /// A new connection of a client.
    fn connect(&mut self, who: usize, leg: Leg, end: impl FnOnce(u32) -> End) -> u32 {
        self.count += 1;
        let number = self.count as u32;
        let seed = self.seed.wrapping_mul(7919).wrapping_add(self.count);
        let stream = Stream::new((who, leg), end(number), seed);
        self.streams.insert(number, stream);
        self.seats[who].access[leg.place()].stream = Some(number);
        self.knock(number);
        number
    }

    /// A connection that was not answered yet asks once more.
    pub(super) fn knock(&mut self, number: u32) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        if stream.state == State::Knocking {
            self.send_up(stream.who, EMPTY_BYTES, || Event::Knocked(number));
            self.put(self.now + KNOCK_AGAIN, Event::KnockAgain(number));
        }
    }

    /// A connection reaches its other end.
    pub(super) fn knocked(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let (who, leg, end) = (stream.who, stream.leg, stream.end);
        let first = !std::mem::replace(&mut stream.taken, true);
        if let (End::Server(server), true) = (end, first) {
            let from = self.seats[who].access[leg.place()].address;
            let seen = (server, Carrier::Tcp(number), from);
            self.seen.insert(seen, (who, leg));
            self.servers[server].handle_connected(number, from, self.now);
        }
        let arrivals = self.seats[who].down.carry(EMPTY_BYTES, self.now);
        for at in arrivals {
            self.put(at, Event::Accepted(number));
        }
    }

    /// A client's connection is there.
    pub(super) fn accepted(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if stream.state != State::Knocking {
            return;
        }
        stream.state = State::Open;
        let (who, leg, end) = (stream.who, stream.leg, stream.end);
        match end {
            End::Server(_) => {
                self.seats[who].client.check_leg(leg, self.now);
                self.carry_from_client(who);
            }
            End::Turn(..) => self.begin_turning(who, leg),
        }
    }

    /// A connection is no more, at both ends; what was on it is lost.
    pub(super) fn close_stream(&mut self, number: u32) {
        let Some(stream) = self.streams.remove(&number) else {
            return;
        };
        self.judge_stream(number, &stream);
        self.repeated += stream.repeated();
        let (who, leg) = (stream.who, stream.leg);
        self.seats[who].lost_up += stream.media;
        let access = &mut self.seats[who].access[leg.place()];
        if access.stream == Some(number) {
            access.stream = None;
            access.turn = None;
            self.seats[who].torn[leg.place()] = true;
        }
        match stream.end {
            End::Server(server) => {
                self.servers[server].handle_closed(number, self.now);
                self.carry_from_server(server);
            }
            End::Turn(turn, client) => {
                self.turns[turn].handle_closed(&client, self.now);
                self.carry_from_turn(turn);
            }
        }
    }

    fn judge_stream(&mut self, number: u32, stream: &Stream) {
        if let End::Server(server) = stream.end
            && let Some(dropped) = self.servers[server].streams().dropped(number)
            && let Err(broken) = stream.frames.close(dropped)
        {
            self.note(stream.who, &broken);
        }
    }

    /// A client's datagram goes by its own connection to its server: whether it goes at all. Media
    /// waits for a check that was answered, as in libwebrtc.
    pub(super) fn write_to_server(&mut self, who: usize, leg: Leg, bytes: &[u8]) -> bool {
        let seat = &mut self.seats[who];
        let Some(number) = seat.access[leg.place()].stream else {
            let told = seat.client.candidate(leg, true);
            let port = super::server::TCP_PORT;
            let here =
                |told: SocketAddr| told == SocketAddr::new(self.turns[seat.server].at.ip(), port);
            if told.is_some_and(here) && !seat.gone {
                let server = seat.server;
                self.connect(who, leg, |_| End::Server(server));
            }
            return false;
        };
        let Some(stream) = self.streams.get_mut(&number) else {
            return false;
        };
        let check = bytes.first().is_some_and(|first| *first < 4);
        let may = stream.state == State::Used || stream.state == State::Open && check;
        let went = may && stream.write(bytes);
        if went {
            stream.media += u64::from(checks::media_ssrc(bytes).is_some());
            self.drive(number);
        }
        went
    }

    /// What a server has for its connections is written, as far as they take it.
    pub(super) fn carry_to_streams(&mut self, server: usize) {
        for number in self.servers[server].streams().waiting() {
            let Some(stream) = self.streams.get_mut(&number) else {
                continue;
            };
            let write = |bytes: &[u8]| stream.down.write(bytes);
            self.servers[server]
                .streams()
                .flush(number, self.now, write);
            self.drive(number);
        }
        while let Some(number) = self.servers[server].streams().poll_ended() {
            self.close_stream(number);
        }
    }

    fn drive(&mut self, number: u32) {
        if let Some(stream) = self.streams.get_mut(&number) {
            let seat = &mut self.seats[stream.who];
            stream.drive(&mut seat.up, &mut seat.down, self.now);
        }
    }

    /// Lets connections go on, and hands on what has come by them.
    pub(super) fn step_streams(&mut self) {
        let due = |stream: &&Stream| {
            stream.poll_timeout().is_some_and(|at| at <= self.now) || stream.has_come()
        };
        let streams = self.streams.iter().filter(|(_, stream)| due(stream));
        let numbers = streams.map(|(number, _)| *number);
        for number in numbers.collect::<Vec<_>>() {
            self.drive(number);
            let Some(stream) = self.streams.get_mut(&number) else {
                continue;
            };
            match stream.end {
                End::Server(server) => {
                    let came = stream.up.read();
                    if !came.is_empty() {
                        self.servers[server].handle_stream(number, &came, self.now);
                        self.carry_from_server(server);
                    }
                    self.read_frames(number, server);
                }
                End::Turn(turn, client) => {
                    for message in stream.read_turn() {
                        self.hand_to_turn(turn, client, &message);
                    }
                    self.read_messages(number);
                }
            }
            if let Some(server) = self.streams.get(&number).and_then(Stream::server) {
                self.carry_to_streams(server);
            }
        }
    }

    fn read_frames(&mut self, number: u32, server: usize) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let (who, leg) = (stream.who, stream.leg);
        for frame in stream.read() {
            let dropped = self.servers[server].streams().dropped(number);
            let Some(stream) = self.streams.get_mut(&number) else {
                return;
            };
            // Whoever has gone another way reads no more of it.
            if self.seats[who].access[leg.place()].stream != Some(number) {
                continue;
            }
            if frame.first().is_some_and(|first| *first < 4) {
                stream.state = State::Used;
            }
            if let Err(broken) = stream.frames.came(&frame, dropped.unwrap_or(u64::MAX)) {
                self.note(who, &broken);
            }
            self.deliver(who, leg, &frame);
        }
    }

    fn read_messages(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let (who, leg) = (stream.who, stream.leg);
        for message in stream.read() {
            if self.seats[who].access[leg.place()].stream == Some(number) {
                self.arrive_by_turn(who, leg, &message);
            }
        }
    }

    // TURN

    /// A client's datagram goes by its allocation: whether it goes at all.
    pub(super) fn send_by_turn(&mut self, who: usize, leg: Leg, bytes: &[u8]) -> bool {
        let access = &mut self.seats[who].access[leg.place()];
        if let Some(turn) = &mut access.turn {
            let wrapped = turn.wrap(bytes);
            return wrapped.is_some_and(|wrapped| self.send_to_turn(who, leg, wrapped));
        }
        self.begin_turning(who, leg);
        false
    }

    /// A client of TURN begins as soon as it knows with whom to talk and by which name, and its
    /// connection is there if it has one.
    fn begin_turning(&mut self, who: usize, leg: Leg) {
        let seat = &mut self.seats[who];
        let access = &seat.access[leg.place()];
        let Way::Relay {
            at,
            stream,
            channels,
        } = access.way
        else {
            return;
        };
        let from = access.address;
        let peer = seat.client.candidate(leg, false);
        let (Some(peer), Some(ticket)) = (peer, seat.client.ticket.clone()) else {
            return;
        };
        if seat.gone {
            return;
        }
        let habit = Habit {
            peer,
            ticket,
            channels,
            stream,
            keeps: self.turns[at].keeps(),
        };
        match access.stream {
            None if stream => {
                let local = self.turns[at].at;
                let client = |link| Client::new(Transport::Tcp, from, local, link);
                self.connect(who, leg, |number| End::Turn(at, client(number)));
                return;
            }
            Some(number) if !self.streams.get(&number).is_some_and(Stream::is_open) => return,
            _ => {}
        }
        self.count += 1;
        let turn = Turning::new(habit, self.count as u32, self.now);
        self.seats[who].access[leg.place()].turn = Some(turn);
        self.send_turning(who, leg);
    }

    /// What a client's TURN has to do.
    pub(super) fn step_turning(&mut self, who: usize) {
        for leg in Leg::BOTH {
            let access = &mut self.seats[who].access[leg.place()];
            if access.poll_timeout().is_some_and(|at| at <= self.now)
                && let Some(turn) = &mut access.turn
            {
                turn.handle_timeout(self.now);
                self.send_turning(who, leg);
            }
        }
    }

    /// Sends what a client of TURN has to say for itself.
    fn send_turning(&mut self, who: usize, leg: Leg) {
        let access = &mut self.seats[who].access[leg.place()];
        let outputs = access.turn.as_mut().map(Turning::take_output);
        for bytes in outputs.unwrap_or_default() {
            self.send_to_turn(who, leg, bytes);
        }
    }

    fn send_to_turn(&mut self, who: usize, leg: Leg, bytes: Vec<u8>) -> bool {
        let access = &self.seats[who].access[leg.place()];
        let Way::Relay { at, stream, .. } = access.way else {
            return false;
        };
        if !stream {
            let client = Client::new(Transport::Udp, access.address, self.turns[at].at, 0);
            let event = || Event::ToTurn(at, client, bytes.clone());
            return self.send_datagram(who, bytes.len(), event);
        }
        let Some(number) = access.stream else {
            return false;
        };
        let Some(connection) = self.streams.get_mut(&number) else {
            return false;
        };
        let went = connection.write(&bytes);
        if went {
            let media = carried(&bytes).and_then(checks::media_ssrc);
            connection.media += u64::from(media.is_some());
            self.drive(number);
        }
        went
    }

    /// A client's datagram or message reaches a TURN server.
    pub(super) fn hand_to_turn(&mut self, turn: usize, from: Client, bytes: &[u8]) {
        let passed = self.turns[turn].handle_client(from, bytes, self.now);
        let payload = carried(bytes).map(<[u8]>::to_vec);
        let owner = match from.transport {
            Transport::Udp => self.who_is_at(from.remote).map(|(who, _)| who),
            Transport::Tcp | Transport::Tls => self.streams.get_mut(&from.link).map(|stream| {
                let media = payload.as_deref().and_then(checks::media_ssrc);
                stream.media -= u64::from(media.is_some());
                stream.who
            }),
        };
        if let (Some(payload), Some(who)) = (payload, owner) {
            self.count_lost(who, &payload, passed);
        }
        self.carry_from_turn(turn);
    }

    /// What a TURN server has for others, and what follows from it.
    pub(super) fn carry_from_turn(&mut self, turn: usize) {
        for (id, client, relayed) in self.turns[turn].take_allocated() {
            let owner = match client.transport {
                Transport::Udp => self.who_is_at(client.remote),
                Transport::Tcp | Transport::Tls => {
                    let stream = self.streams.get(&client.link);
                    stream.map(|stream| (stream.who, stream.leg))
                }
            };
            let Some((who, leg)) = owner else { continue };
            let server = self.seats[who].server;
            let carrier = if server == turn {
                Carrier::Relay {
                    slot: id.slot,
                    generation: id.generation,
                }
            } else {
                Carrier::Udp(0)
            };
            self.seen.insert((server, carrier, relayed), (who, leg));
        }
        for (AllocationId { slot, generation }, relayed) in self.turns[turn].take_gone() {
            let way = (turn, Carrier::Relay { slot, generation }, relayed);
            let Some((who, leg)) = self.seen.get(&way) else {
                continue;
            };
            let seat = &mut self.seats[*who];
            // The server has nowhere to send to until he has another: that leaves holes.
            seat.torn[leg.place()] |= seat.access[leg.place()].turn.is_some();
        }
        self.carry_turn_output(turn);
        self.servers[turn].handle_relayed(self.now);
        self.carry_from_server(turn);
    }

    pub(super) fn carry_turn_output(&mut self, turn: usize) {
        while let Some(output) = self.turns[turn].poll_output() {
            match output {
                Output::Client(client, bytes) if client.transport == Transport::Udp => {
                    self.send_down(client.remote, bytes);
                }
                Output::Client(client, bytes) => {
                    if let Some(stream) = self.streams.get_mut(&client.link) {
                        stream.write_turn(&bytes);
                        self.drive(client.link);
                    }
                }
                Output::Peer { from, to, bytes } => {
                    let here = |turn: &super::Turn| turn.at.ip() == to.ip();
                    if let Some(server) = self.turns.iter().position(here) {
                        let at = self.now + super::carriage::NEAR;
                        self.put(at, Event::ToServer(server, from, bytes));
                    }
                }
            }
        }
        for what in self.turns[turn].take_broken() {
            let invariant = Invariant::Relayed;
            self.broken.push(Broken { invariant, what }.to_string());
        }
    }

    /// Something of a TURN server has come to a client.
    pub(super) fn arrive_by_turn(&mut self, who: usize, leg: Leg, bytes: &[u8]) {
        let Some(turn) = &mut self.seats[who].access[leg.place()].turn else {
            return;
        };
        let before = turn.is_ready();
        let payload = turn.handle(bytes, self.now);
        let ready = turn.is_ready() && !before;
        self.send_turning(who, leg);
        if ready {
            self.seats[who].losses.unsure(self.now);
            self.seats[who].client.check_leg(leg, self.now);
            self.carry_from_client(who);
        }
        if let Some(payload) = payload {
            self.deliver(who, leg, &payload);
        }
    }

    // What is asked at the end

    /// The end of all connections that are open: nothing was left out that was not counted. And by
    /// which transport does the server say that each client comes?
    pub fn judge_ways(&mut self) {
        let streams = std::mem::take(&mut self.streams);
        for (number, stream) in &streams {
            self.judge_stream(*number, stream);
        }
        self.streams = streams;
        for who in 0..self.seats.len() {
            let seat = &self.seats[who];
            let expected = match seat.access[0].way {
                Way::Udp => PathTransport::Udp,
                Way::Tcp => PathTransport::Tcp,
                Way::Relay { at, .. } if at == seat.server => PathTransport::Turn,
                // A relay elsewhere looks like any client.
                Way::Relay { .. } => PathTransport::Udp,
            };
            let remote = seat.access[0].remote();
            let told = remote.and_then(|remote| self.servers[seat.server].transport(&remote));
            if told != Some(expected) && seat.client.is_up() && !seat.gone {
                let invariant = Invariant::Transport;
                let what = format!("{told:?} told of {:?}", seat.access[0].way);
                self.note(who, &Broken { invariant, what });
            }
        }
    }

    /// RTP packets that have not reached their server yet.
    #[must_use]
    pub fn media_on_the_way(&self) -> u64 {
        let is_media = |event: &&Event| match event {
            Event::ToServer(_, _, bytes) => checks::media_ssrc(bytes).is_some(),
            Event::ToTurn(_, _, bytes) => carried(bytes).and_then(checks::media_ssrc).is_some(),
            _ => false,
        };
        let datagrams = self.on_the_way.values().filter(is_media).count() as u64;
        let streams = self.streams.values().map(|stream| stream.media);
        datagrams + streams.sum::<u64>()
    }

    /// The end of all streams: so many packets were lost on their way to servers.
    pub fn finish(&mut self, lost: u64) {
        for seat in &self.seats {
            // While the server had no path, what it forwarded went nowhere, and its numbers are not used
            // for anything else.
            let counters = self.servers[seat.server].plane().counters();
            let missing = |torn| lost + if torn { counters.dropped.no_path } else { 0 };
            let watches = seat.watches.iter().zip(seat.torn);
            let told = watches.filter_map(|(watch, torn)| watch.finish(missing(torn)).err());
            self.broken.extend(told.map(|broken| broken.to_string()));
        }
    }
}
