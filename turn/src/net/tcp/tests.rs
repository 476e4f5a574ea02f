//! Who is let in, and who makes room.

use super::*;
use mio::Poll;
use std::net::TcpStream as Std;

/// Streams without listeners, and what they need.
struct World {
    streams: Streams,
    poll: Poll,
    listener: std::net::TcpListener,
    far: Vec<Std>,
}

impl World {
    fn new(limits: StreamLimits, now: Instant) -> Self {
        Self {
            streams: Streams::new(limits, None, Keyed::new([1, 2]), now),
            poll: Poll::new().expect("epoll"),
            listener: std::net::TcpListener::bind("127.0.0.1:0").expect("a port"),
            far: Vec::new(),
        }
    }

    /// Somebody of this address comes, by another port.
    fn come(&mut self, remote: &str, now: Instant) {
        let at = self.listener.local_addr().expect("bound");
        self.far.push(Std::connect(at).expect("a connection"));
        let (stream, _) = self.listener.accept().expect("it came");
        stream.set_nonblocking(true).expect("a socket");
        let adopted = Adopted {
            stream,
            remote: remote.parse().expect("an address"),
            port: 443,
            shared: false,
        };
        self.streams.adopt(adopted, self.poll.registry(), now);
    }

    /// The place of whoever came from there.
    fn slot(&self, remote: &str) -> u32 {
        let of = |one: &Option<Box<Connection>>| {
            let remote: SocketAddr = remote.parse().expect("an address");
            one.as_ref().is_some_and(|one| one.client.remote == remote)
        };
        let at = self.streams.connections.iter().position(of);
        at.expect("it is let in") as u32
    }
}

#[test]
fn at_the_limit_who_has_the_most_connections_loses_one_that_is_not_used() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let limits = StreamLimits {
        connections: 4,
        ..StreamLimits::default()
    };
    let mut world = World::new(limits, now);
    let all = ["1.2.3.4:1", "6.6.6.6:1", "6.6.6.6:2", "6.6.6.6:3"];
    for remote in all {
        world.come(remote, now);
        let slot = world.slot(remote);
        world.streams.set_allocated(slot, Some(now), now);
    }
    let used = world.slot("6.6.6.6:1");
    world.streams.set_allocated(used, Some(at(20)), at(20));
    world.come("1.2.3.5:1", at(29));
    let counters = world.streams.counters();
    assert_eq!((counters.turned_away, counters.displaced), (1, 0));
    world.come("1.2.3.5:1", at(30));
    let gone = world.streams.poll_displaced().expect("one made room");
    assert!(["6.6.6.6:2", "6.6.6.6:3"].contains(&gone.remote.to_string().as_str()));
    assert_eq!(world.streams.poll_displaced(), None);
    // Nor does the next one take the place of who has just come, as long as anybody is silent.
    let mut silent: Vec<String> = Vec::new();
    while silent.len() < 2 {
        let n = 1 + silent.len() as u64;
        world.come(&format!("1.2.3.6:{n}"), at(30 + n));
        let gone = world.streams.poll_displaced().expect("one made room");
        silent.push(gone.remote.to_string());
    }
    assert!(!silent.contains(&"1.2.3.5:1".to_owned()), "{silent:?}");
    world.come("1.2.3.7:1", at(40));
    let gone = world.streams.poll_displaced().map(|gone| gone.remote);
    assert_eq!(gone, Some(([1, 2, 3, 5], 1).into()), "nobody is silent");
    let counters = world.streams.counters();
    assert_eq!((counters.open, counters.displaced), (4, 4));
}
