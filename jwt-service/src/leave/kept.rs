//! A job as it is kept over a restart: the reference's form, so that either can go on with what the
//! other left. (LK: jwt-service §7.4)

use super::Leave;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// What is kept of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What is delegated.
    pub leave: Leave,
    /// When the event was last restarted, or handed over.
    pub restarted: SystemTime,
    /// The participant has gone, and the event is being sent.
    pub leaving: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Params {
    delay_id: String,
    /// Nanoseconds.
    delay_timeout: u64,
    server_name: String,
    #[serde(rename = "LiveKitRoom")]
    room: String,
    #[serde(rename = "LiveKitIdentity")]
    identity: String,
    #[serde(
        rename = "OwnerUserId",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    owner: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Value {
    params: Params,
    restarted_at: String,
    /// Ours, and absent otherwise: the reference has no such key and ignores it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leaving: bool,
}

/// The name it is kept under.
#[must_use]
pub fn key(room: &str, identity: &str) -> String {
    // Strings always have a JSON form.
    serde_json::to_string(&[room, identity]).unwrap_or_default()
}

impl Kept {
    /// As text. It holds the event's id: whoever reads it can send the event.
    #[must_use]
    pub fn write(&self) -> String {
        let leave = &self.leave;
        let value = Value {
            params: Params {
                delay_id: leave.delay_id.clone(),
                delay_timeout: u64::try_from(leave.timeout.as_nanos()).unwrap_or(u64::MAX),
                server_name: leave.server.clone(),
                room: leave.room.clone(),
                identity: leave.identity.clone(),
                owner: leave.owner.clone(),
            },
            restarted_at: rfc3339(self.restarted),
            leaving: self.leaving,
        };
        serde_json::to_string(&value).unwrap_or_default()
    }

    /// Reads it; `None` if it is something else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(Self {
            restarted: parsed(&value.restarted_at)?,
            leaving: value.leaving,
            leave: Leave {
                delay_id: value.params.delay_id,
                timeout: Duration::from_nanos(value.params.delay_timeout),
                server: value.params.server_name,
                room: value.params.room,
                identity: value.params.identity,
                owner: value.params.owner.filter(|owner| !owner.is_empty()),
            },
        })
    }

    /// How long until the event fires by itself; `None`: it has.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        // One that is beyond all times never does.
        let fires = self.restarted.checked_add(self.leave.timeout);
        let left = fires.map_or(Ok(Duration::MAX), |fires| fires.duration_since(now));
        left.ok().filter(|left| !left.is_zero())
    }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A time in UTC with nanoseconds. (RFC 3339 §5.6)
fn rfc3339(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_nanos()
    )
}

/// The date so many days after 1970-01-01, in the Gregorian calendar: years begin in March, so that
/// the leap day is the last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Days from 1970-01-01 to a date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// Reads a time as Go and we write it: with or without a fraction, in UTC or with an offset.
fn parsed(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T')?;
    let mut parts = date.splitn(3, '-').map(str::parse::<u64>);
    let mut part = || parts.next()?.ok();
    let days = days(part()?, part()?, part()?)?;
    let zone = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = whole.splitn(3, ':').map(str::parse::<u64>);
    let mut part = |most: u64| parts.next()?.ok().filter(|value| *value <= most);
    let second = part(23)? * 3600 + part(59)? * 60 + part(60)?;
    let fits = fraction.len() <= 9 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let nanos = format!("{fraction:0<9}")
        .parse::<u64>()
        .ok()
        .filter(|_| fits)?;
    let offset = match zone.split_at(1) {
        ("Z", "") => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
    };
    let seconds = (days * DAY + second).checked_add_signed(-offset)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn a_job_is_kept_in_the_form_of_the_reference() {
        let kept = Kept {
            leave: Leave {
                delay_id: "id".into(),
                timeout: Duration::from_secs(8),
                server: "example.com".into(),
                room: "r".into(),
                identity: "i".into(),
                owner: None,
            },
            restarted: at(1_700_000_000, 5_000_000),
            leaving: false,
        };
        let text = kept.write();
        assert_eq!(
            text,
            r#"{"Params":{"DelayId":"id","DelayTimeout":8000000000,"ServerName":"example.com","LiveKitRoom":"r","LiveKitIdentity":"i"},"RestartedAt":"2023-11-14T22:13:20.005000000Z"}"#
        );
        assert_eq!(Kept::read(&text), Some(kept.clone()));
        let mut owned = kept.clone();
        owned.leave.owner = Some("@a:example.com".into());
        assert_eq!(Kept::read(&owned.write()), Some(owned));
        let leaving = Kept {
            leaving: true,
            ..kept.clone()
        };
        assert_eq!(Kept::read(&leaving.write()), Some(leaving));
        assert_eq!(kept.left(at(1_700_000_009, 0)), None);
        let left = kept.left(at(1_700_000_008, 0));
        assert_eq!(left, Some(Duration::from_millis(5)));
        assert_eq!(key("r\"", "@a:b"), r#"["r\"","@a:b"]"#);
    }

    #[test]
    fn times_of_others_are_read_and_nonsense_is_not() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T12:00:00.25Z", 1_709_208_000, 250_000_000),
            ("2024-02-29T13:30:00.25+01:30", 1_709_208_000, 250_000_000),
            ("2024-02-29T10:00:00-02:00", 1_709_208_000, 0),
        ] {
            assert_eq!(parsed(text), Some(at(seconds, nanos)), "{text}");
        }
        for text in [
            "",
            "2024-02-29",
            "2024-02-29T25:00:00Z",
            "2024-13-29T12:00:00Z",
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.1234567890Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_is_read_as_it_was_written(seconds in 0_u64..10_000_000_000, nanos in 0_u32..1_000_000_000) {
            prop_assert_eq!(parsed(&rfc3339(at(seconds, nanos))), Some(at(seconds, nanos)));
        }

        #[test]
        fn any_text_is_a_job_or_none(text in "\\PC{0,80}") {
            let _ = Kept::read(&text);
            let _ = parsed(&text);
        }
    }
}
