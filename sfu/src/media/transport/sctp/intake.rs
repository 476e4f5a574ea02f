//! What a client's packets would make the engine keep, judged before the engine sees them.
//!
//! The engine limits the bytes of unread messages. But it searches and sorts all pieces it keeps with
//! each further one, remembers what comes beyond a missing piece also when it has been read, keeps
//! each reset until the client confirms ours, and answers each question by a packet. This counts all
//! of it by the chunks of both directions; it changes no packet. Called by `sctp`. (RFC 9260 §3.3,
//! RFC 6525, RFC 3758)

use super::RECEIVE_BUFFER;

/// How far a piece may be ahead of what we have acknowledged: a full window of messages of 64
/// bytes. What is beyond is dropped, as if lost on its way.
const AHEAD_MAX: u32 = 8 * 1024;
/// Pieces of messages that may be unread or incomplete: as many. The cost of taking one grows with
/// them.
const PIECES_MAX: usize = 8 * 1024;
/// What resets of streams may cost in all, answers and repetitions included: a channel closed costs
/// two, and LiveKit's clients close none.
const RESETS_MAX: usize = 128;
/// A reset of one stream has less; for each further such length it costs one more.
const RESET_BYTES: usize = 32;
/// A reset that names no stream is one of all, and costs so much more.
const RESET_ALL: usize = 16;
/// How it begins: its type and length. (RFC 6525 §4.1)
const OF_ALL: [u8; 4] = [0, 13, 0, 16];
/// Chunks of one packet that may each be answered by a packet: nobody sends two.
const ASKING_MAX: usize = 4;
/// Streams in which one packet may skip messages: only ordered ones are named, and a client has
/// few. Where a stream was reset the engine compares each with all before it.
const SKIPS_MAX: usize = 32;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;
const I_FORWARD_TSN: u8 = 194;
/// Bytes before the first chunk.
const COMMON_HEADER: usize = 12;
/// Bytes of a chunk before what its type says.
const CHUNK_HEADER: usize = 4;
/// Bytes of a DATA chunk before its data.
const DATA_HEADER: usize = 16;
/// Bytes of a FORWARD-TSN chunk before its streams, and of each at least.
const FORWARD_HEADER: usize = 8;
/// See [`FORWARD_HEADER`].
const FORWARD_STREAM: usize = 4;

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on to the engine.
    Take,
    /// It counts as lost.
    Drop,
    /// It is an attack: the association ends.
    End(&'static str),
}

/// The counts of one association.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// The number of the last piece we have acknowledged with all before it.
    acknowledged: Option<u32>,
    /// Pieces that came and were not read. Repetitions count too, until the window is whole again.
    pieces: usize,
    resets: usize,
}

impl Intake {
    /// A packet from the client.
    pub(super) fn judge(&mut self, packet: &[u8], established: bool) -> Verdict {
        let (mut pieces, mut asking, mut skips) = (0, 0, 0);
        for (kind, chunk) in chunks(packet) {
            if !is_whole(kind, chunk) {
                return Verdict::Drop;
            }
            match kind {
                // Overtaken by its own cookie; the engine would end the association.
                INIT if established => return Verdict::Drop,
                INIT => self.acknowledged = number(chunk, 16).map(|first| first.wrapping_sub(1)),
                // Costs nothing of the window. (RFC 9260 §6.2)
                DATA if chunk.len() <= DATA_HEADER => return Verdict::End("data without data"),
                DATA if self.is_too_far(chunk) => return Verdict::Drop,
                DATA => pieces += 1,
                RECONFIG => self.resets += reset_cost(chunk),
                HEARTBEAT | COOKIE_ECHO => asking += 1,
                FORWARD_TSN | I_FORWARD_TSN => {
                    asking += 1;
                    skips += chunk.len().saturating_sub(FORWARD_HEADER) / FORWARD_STREAM;
                }
                _ => {}
            }
        }
        if asking > ASKING_MAX {
            return Verdict::Drop;
        }
        if skips > SKIPS_MAX {
            return Verdict::End("too much skipped at once");
        }
        self.pieces += pieces;
        if self.pieces > PIECES_MAX {
            return Verdict::End("too many pieces unread");
        }
        if self.resets > RESETS_MAX {
            return Verdict::End("too many resets");
        }
        Verdict::Take
    }

    fn is_too_far(&self, chunk: &[u8]) -> bool {
        let (Some(acknowledged), Some(piece)) = (self.acknowledged, number(chunk, 4)) else {
            return false;
        };
        let ahead = piece.wrapping_sub(acknowledged);
        // The other half of the numbers are old ones.
        (AHEAD_MAX + 1..1 << 31).contains(&ahead)
    }

    /// A message of so many pieces was read.
    pub(super) fn handle_read(&mut self, pieces: usize) {
        self.pieces = self.pieces.saturating_sub(pieces);
    }

    /// A packet goes to the client.
    pub(super) fn handle_sent(&mut self, packet: &[u8]) {
        for (_, sack) in chunks(packet).filter(|(kind, _)| *kind == SACK) {
            self.acknowledged = number(sack, 4).or(self.acknowledged);
            if number(sack, 8).is_some_and(|window| window >= RECEIVE_BUFFER) {
                self.pieces = 0;
            }
        }
    }
}

/// The chunks of a packet with their types and headers, up to the first that is malformed.
fn chunks(packet: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = packet.get(COMMON_HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind, _, len_a, len_b] = *rest.first_chunk::<CHUNK_HEADER>()?;
        let len = usize::from(u16::from_be_bytes([len_a, len_b]));
        let chunk = rest.get(..len).filter(|_| len >= CHUNK_HEADER)?;
        // Padded to four bytes, the last one perhaps not.
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, chunk))
    })
}

/// What a chunk about resets may make the engine keep.
fn reset_cost(chunk: &[u8]) -> usize {
    let of_all = chunk.chunks_exact(4).filter(|word| *word == OF_ALL);
    chunk.len().div_ceil(RESET_BYTES) + RESET_ALL * of_all.count()
}

/// Does the engine find the chunk's end where we do? Of these it would take what is too long for
/// further chunks. We never ask for an association, so none is confirmed to us.
fn is_whole(kind: u8, chunk: &[u8]) -> bool {
    match kind {
        INIT_ACK => false,
        SHUTDOWN_ACK | COOKIE_ACK | SHUTDOWN_COMPLETE => chunk.len() == CHUNK_HEADER,
        SACK => number(chunk, 12).is_some_and(|counts| {
            let listed = (counts >> 16) as usize + (counts & 0xFFFF) as usize;
            chunk.len() == 16 + 4 * listed
        }),
        HEARTBEAT => number(chunk, CHUNK_HEADER).is_some_and(|parameter| {
            let end = CHUNK_HEADER + (parameter & 0xFFFF) as usize;
            end.next_multiple_of(4) == chunk.len().next_multiple_of(4)
        }),
        _ => true,
    }
}

/// The number at a place of a chunk.
fn number(chunk: &[u8], at: usize) -> Option<u32> {
    let bytes = chunk.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(kind: u8, numbers: &[u32], rest: usize) -> Vec<u8> {
        let len = CHUNK_HEADER + 4 * numbers.len() + rest;
        let mut chunk = vec![kind, 0];
        chunk.extend_from_slice(&(len as u16).to_be_bytes());
        for number in numbers {
            chunk.extend_from_slice(&number.to_be_bytes());
        }
        chunk.resize(len.next_multiple_of(4), 0);
        chunk
    }

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; COMMON_HEADER], chunks.concat()].concat()
    }

    fn data(piece: u32) -> Vec<u8> {
        chunk(DATA, &[piece, 0, 0], 1)
    }

    fn sack(acknowledged: u32, window: u32) -> Vec<u8> {
        packet(&[chunk(SACK, &[acknowledged, window, 0], 0)])
    }

    /// An association whose client's first piece is the last of all numbers.
    fn begun() -> Intake {
        let mut intake = Intake::default();
        let init = packet(&[chunk(INIT, &[7, 1 << 20, 0, u32::MAX], 0)]);
        assert_eq!(intake.judge(&init, false), Verdict::Take);
        intake
    }

    #[test]
    fn a_piece_far_beyond_what_is_acknowledged_counts_as_lost() {
        let mut intake = begun();
        let first = u32::MAX;
        let mut judge = |piece: u32| intake.judge(&packet(&[data(piece)]), true);
        assert_eq!(judge(first), Verdict::Take);
        assert_eq!(judge(first.wrapping_add(AHEAD_MAX - 1)), Verdict::Take);
        assert_eq!(judge(first.wrapping_add(AHEAD_MAX)), Verdict::Drop);
        assert_eq!(judge(first.wrapping_sub(100)), Verdict::Take, "an old one");
        intake.handle_sent(&sack(first, 1000));
        let next = packet(&[data(first.wrapping_add(AHEAD_MAX))]);
        assert_eq!(intake.judge(&next, true), Verdict::Take);
    }

    #[test]
    fn pieces_count_until_they_are_read_or_the_window_is_whole_again() {
        let mut intake = begun();
        let piece = packet(&[data(u32::MAX)]);
        let fill = |intake: &mut Intake, count: usize| {
            (0..count).all(|_| intake.judge(&piece, true) == Verdict::Take)
        };
        assert!(fill(&mut intake, PIECES_MAX));
        intake.handle_read(10);
        assert!(fill(&mut intake, 10));
        intake.handle_sent(&sack(u32::MAX, RECEIVE_BUFFER));
        assert!(fill(&mut intake, PIECES_MAX));
        intake.handle_sent(&sack(u32::MAX, RECEIVE_BUFFER - 1));
        assert!(!fill(&mut intake, 1));
    }

    #[test]
    fn a_client_that_resets_without_end_or_sends_nothing_as_data_is_cut_off() {
        let mut intake = begun();
        let reset = packet(&[chunk(RECONFIG, &[0, 0, 0], 0)]);
        for _ in 0..RESETS_MAX {
            assert_eq!(intake.judge(&reset, true), Verdict::Take);
        }
        assert_eq!(intake.judge(&reset, true), Verdict::End("too many resets"));
        let nothing = packet(&[chunk(DATA, &[u32::MAX, 0, 0], 0)]);
        assert_eq!(
            begun().judge(&nothing, true),
            Verdict::End("data without data")
        );
    }

    #[test]
    fn a_reset_of_many_streams_costs_more_than_one_of_one() {
        let cost = |numbers: &[u32], rest| reset_cost(&chunk(RECONFIG, numbers, rest));
        assert_eq!(cost(&[0x000D_0012, 1, 2, 3], 2), 1);
        assert_eq!(cost(&[0x000D_0110, 1, 2, 3], 256), 9);
        assert_eq!(cost(&[0x000D_0010, 1, 2, 3], 0), 1 + RESET_ALL);
    }

    #[test]
    fn a_packet_that_asks_for_many_answers_counts_as_lost() {
        let asking = |kind: u8, count: usize| packet(&vec![chunk(kind, &[0x0001_0004], 0); count]);
        for kind in [HEARTBEAT, COOKIE_ECHO, FORWARD_TSN] {
            let few = begun().judge(&asking(kind, ASKING_MAX), true);
            let many = begun().judge(&asking(kind, ASKING_MAX + 1), true);
            assert_eq!((few, many), (Verdict::Take, Verdict::Drop));
        }
    }

    #[test]
    fn a_chunk_the_engine_would_take_for_several_counts_as_lost() {
        let cases: [(u8, &[u32], bool); 10] = [
            (SACK, &[5, 1000, 0x0001_0001, 0, 0], true),
            (SACK, &[5, 1000, 0, 0, 0], false),
            (SACK, &[5, 1000], false),
            (HEARTBEAT, &[0x0001_0008, 0], true),
            (HEARTBEAT, &[0x0001_0004, 0], false),
            (COOKIE_ACK, &[], true),
            (COOKIE_ACK, &[0], false),
            (SHUTDOWN_ACK, &[0], false),
            (SHUTDOWN_COMPLETE, &[0], false),
            (INIT_ACK, &[7, 1000, 0, 0], false),
        ];
        for (kind, numbers, whole) in cases {
            let verdict = begun().judge(&packet(&[chunk(kind, numbers, 0)]), true);
            assert_eq!(verdict == Verdict::Take, whole, "{kind} {numbers:?}");
        }
    }

    #[test]
    fn a_client_that_skips_messages_in_more_streams_than_it_has_is_cut_off() {
        let skipping = |count: usize| packet(&[chunk(FORWARD_TSN, &vec![0; 1 + count], 0)]);
        let few = begun().judge(&skipping(SKIPS_MAX), true);
        let many = begun().judge(&skipping(SKIPS_MAX + 1), true);
        let cut = Verdict::End("too much skipped at once");
        assert_eq!((few, many), (Verdict::Take, cut));
    }

    #[test]
    fn an_init_that_comes_late_counts_as_lost() {
        let init = packet(&[chunk(INIT, &[7, 1 << 20, 0, 5], 0)]);
        assert_eq!(begun().judge(&init, false), Verdict::Take);
        assert_eq!(begun().judge(&init, true), Verdict::Drop);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut intake = Intake::default();
            let _ = intake.judge(&bytes, false);
            intake.handle_sent(&bytes);
        }
    }
}
