use super::*;
use crate::units::RtpTime;

#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn epoch() -> Instant {
    Instant::now()
}

const NTP: u64 = 0x0102_0304_0000_0000;

fn clock(arrival: Instant) -> (SenderClock, u32) {
    let clock = SenderClock {
        ntp: NTP,
        rtp: RtpTime(0),
        arrival,
    };
    (clock, 5000)
}

#[test]
fn the_first_report_goes_out_with_the_first_packet_and_the_publishers_report() {
    let now = epoch();
    let mut reports = Reports::new(90_000, now);
    assert_eq!(reports.poll(1, Some(clock(now)), now), None, "nothing sent");
    reports.handle_sent(100, now);
    assert_eq!(reports.poll_timeout(), Some(now));
    assert_eq!(reports.poll(1, None, now), None);
    let retry = reports.poll_timeout().expect("retry");
    assert!(retry > now);
    let report = reports.poll(1, Some(clock(now)), retry).expect("report");
    assert_eq!((report.packets, report.octets), (1, 100));
}

#[test]
fn both_clocks_advance_alike() {
    let now = epoch();
    let mut reports = Reports::new(90_000, now);
    reports.handle_sent(1, now);
    let later = now + Duration::from_millis(1500);
    let report = reports.poll(1, Some(clock(now)), later).expect("report");
    assert_eq!(report.ntp, NTP + (3 << 31));
    assert_eq!(report.rtp, 5000 + 135_000);
}

#[test]
fn reports_come_each_second_for_five_seconds_and_then_each_three() {
    let now = epoch();
    let mut reports = Reports::new(90_000, now);
    reports.handle_sent(1, now);
    let mut gaps = Vec::new();
    let mut last = now;
    for _ in 0..8 {
        let due = reports.poll_timeout().expect("due");
        gaps.push((due - last).as_secs());
        assert!(reports.poll(1, Some(clock(now)), due).is_some());
        last = due;
    }
    assert_eq!(gaps, [0, 1, 1, 1, 1, 1, 3, 3]);
}

#[test]
fn a_paused_stream_reports_nothing_until_it_flows_again() {
    let now = epoch();
    let mut reports = Reports::new(90_000, now);
    reports.handle_sent(1, now);
    reports.handle_idle(now);
    assert_eq!(reports.poll_timeout(), None);
    let later = now + Duration::from_secs(60);
    reports.handle_sent(1, later);
    assert_eq!(reports.poll_timeout(), Some(later));
}

#[test]
fn a_receiver_report_that_answers_one_of_ours_tells_the_round_trip() {
    let now = epoch();
    let mut reports = Reports::new(90_000, now);
    reports.handle_sent(1, now);
    let sent = reports.poll(1, Some(clock(now)), now).expect("report");
    let reception = Reception {
        last_report: (sent.ntp >> 16) as u32,
        delay: 1 << 16,
        ..Reception::default()
    };
    let at = now + Duration::from_millis(1080);
    assert_eq!(
        reports.handle_reception(reception, at),
        Some(Duration::from_millis(80))
    );
    assert_eq!(
        reports.handle_reception(reception, now),
        None,
        "before the delay"
    );
    let unknown = Reception {
        last_report: 7,
        ..reception
    };
    assert_eq!(reports.handle_reception(unknown, at), None);
}

#[test]
fn a_window_holds_what_happened_since_the_last() {
    let now = epoch();
    let second = Duration::from_secs(1);
    let mut reports = Reports::new(90_000, now);
    reports.handle_sent(100, now + second);
    let told = |lost| Reception {
        lost,
        jitter: 900,
        ..Reception::default()
    };
    reports.handle_reception(told(7), now + second);
    reports.handle_idle(now + 3 * second);
    let window = reports.take_window(4, now + 5 * second);
    assert_eq!(window.span, 5 * second);
    assert_eq!(
        window.idle,
        3 * second,
        "before the first packet, and after the pause"
    );
    assert_eq!((window.packets, window.bytes), (1, 100));
    assert_eq!((window.lost, window.missing_upstream), (7, 4));
    assert_eq!(window.jitter, Duration::from_millis(10));
    reports.handle_reception(told(5), now + 6 * second);
    let window = reports.take_window(3, now + 7 * second);
    assert_eq!((window.lost, window.missing_upstream), (0, 0));
    assert_eq!((window.reports, window.idle), (1, 2 * second));
}

#[test]
fn what_a_report_says_of_this_leg_leaves_out_what_never_came_to_us() {
    let now = epoch();
    let mut reports = Reports::new(90_000, now);
    let mut told = |highest, lost, holes| {
        let reception = Reception {
            highest,
            lost,
            ..Reception::default()
        };
        let crossing = reports.crossing(&reception, holes);
        reports.handle_reception(reception, now);
        crossing.map(|crossing| (crossing.sent, crossing.lost))
    };
    assert_eq!(told(0xFFFF_FFF0, 5, 3), None, "nothing to compare with");
    assert_eq!(told(0x10, 15, 3), Some((32, 10)));
    assert_eq!(told(0x20, 25, 9), Some((10, 4)));
    // A hole was filled late, and so arrived late.
    assert_eq!(told(0x30, 24, 8), Some((17, 0)));
    assert_eq!(
        told(0x40, 1000, 8),
        Some((16, 976)),
        "bounded where it is put together"
    );
    // Numbers that were skipped are known to us sooner than to him.
    assert_eq!(told(0x41, 1000, 108), Some((-99, -100)));
    assert_eq!(told(0xA5, 1100, 108), Some((100, 100)));
    assert_eq!(told(0x30, 1000, 108), None, "an old one");
    assert_eq!(
        told(0x30 + BETWEEN_REPORTS + 1, 0, 8),
        None,
        "another stream"
    );
}
