//! The pair of candidates by which a participant's media goes, as the server's log tells it.

use std::net::SocketAddr;

/// One end of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// `udp4`, `tcp6` and the like.
    pub network: String,
    /// `host`, `prflx` or `relay`.
    pub kind: String,
    /// Its address.
    pub at: SocketAddr,
}

/// What a line of the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Whose it is.
    pub participant: String,
    /// `udp`, `tcp` or `turn`.
    pub path: String,
    /// The server's end.
    pub local: End,
    /// The client's end, as the server sees it.
    pub remote: End,
}

impl Pair {
    /// Those by which participants were connected first, in the order of the log.
    #[must_use]
    pub fn first(log: &str) -> Vec<Self> {
        all(log, "participant active")
    }

    /// Those to which connections moved afterwards.
    #[must_use]
    pub fn later(log: &str) -> Vec<Self> {
        all(log, "ice reconnected or switched pair")
    }
}

fn all(log: &str, what: &str) -> Vec<Pair> {
    let lines = log.lines().filter(|line| line.contains(what));
    let pair = |line| pair(line).unwrap_or_else(|| panic!("no pair: {line}"));
    lines.map(pair).collect()
}

/// The pair of a line: `… publisherCandidates="[local][selected:1] udp4 host A [remote][selected:1] udp4
/// prflx B" … connectionType="udp"`.
fn pair(line: &str) -> Option<Pair> {
    let field = |name: &str| {
        let rest = line.split_once(&format!("{name}=\""))?.1;
        rest.split_once('"').map(|(value, _)| value)
    };
    let (_, ends) = field("publisherCandidates")?.split_once("[local][selected:1] ")?;
    let (local, remote) = ends.split_once(" [remote][selected:1] ")?;
    let participant = line.split_once("participant=")?.1;
    let (participant, _) = participant.split_once([' ', '}', ':'])?;
    Some(Pair {
        participant: participant.trim_matches('"').to_owned(),
        path: field("connectionType")?.to_owned(),
        local: end(local)?,
        remote: end(remote)?,
    })
}

fn end(text: &str) -> Option<End> {
    let mut words = text.split(' ');
    let (network, kind, at) = (words.next()?, words.next()?, words.next()?);
    Some(End {
        network: network.to_owned(),
        kind: kind.to_owned(),
        at: at.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_read_from_a_line_of_the_log() {
        let log = "2026-01-01T00:00:00Z  INFO room{room=r}:participant{participant=bob sid=PA_1}: foci: \
                   participant active publisherCandidates=\"[local][selected:1] udp4 host 192.0.2.1:7 \
                   [remote][selected:1] udp4 prflx 192.0.2.2:9\" subscriberCandidates=\"\" \
                   connectionType=\"udp\" connectTime=5ms\nanother line";
        let [pair] = &Pair::first(log)[..] else {
            panic!("one pair");
        };
        assert_eq!((&*pair.participant, &*pair.path), ("bob", "udp"));
        assert_eq!(pair.local.at.to_string(), "192.0.2.1:7");
        assert_eq!(
            (&*pair.remote.network, &*pair.remote.kind),
            ("udp4", "prflx")
        );
        assert!(Pair::later(log).is_empty());
    }
}
