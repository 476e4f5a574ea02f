//! The homeserver that has us as an application service.

use super::url::is_authority;
use crate::config::complaint::{Complaints, quoted};
use crate::config::keys::Secret;
use crate::config::raw::Values;
use std::time::Duration;

const SERVER_NAME: &str = "matrix.app_service.server_name";
const HS_TOKEN: &str = "matrix.app_service.hs_token";
const AS_TOKEN: &str = "matrix.app_service.as_token";
const FILE: &str = "matrix.app_service.registration_file";
const INTERVAL: &str = "matrix.app_service.membership_interval";

/// Asked for more often, a homeserver has nothing else to do.
const INTERVAL_MIN: Duration = Duration::from_secs(5);

/// What is settled with a homeserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppService {
    /// Its server name.
    pub server_name: String,
    /// It shows this to us.
    pub hs_token: Secret,
    /// We show this to it.
    pub as_token: Secret,
    /// How often it is asked who is still in a room; zero: never.
    pub membership_interval: Duration,
}

impl AppService {
    /// Where the registration is, if a file is named.
    #[must_use]
    pub fn file(values: &Values) -> Option<String> {
        Some(values.text(FILE)).filter(|file| !file.is_empty())
    }

    /// The section, if there is any of it. A file was read before.
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Option<Self> {
        let keys = [SERVER_NAME, HS_TOKEN, AS_TOKEN, FILE];
        let set = keys.iter().find(|key| !values.text(key).is_empty())?;
        if !values.flag("matrix.enabled") {
            return None;
        }
        let mut missing = |key: &'static str, cause: &str, fix: &str| {
            if values.text(key).is_empty() {
                complaints.error(key, values.place(set), cause.to_owned(), fix);
            }
        };
        let fix = "write for example example.org, the part of user ids after the colon";
        missing(
            SERVER_NAME,
            "missing beside the rest of matrix.app_service",
            fix,
        );
        let fix = "name the registration in matrix.app_service.registration_file";
        missing(
            HS_TOKEN,
            "missing beside the rest of matrix.app_service",
            fix,
        );
        missing(
            AS_TOKEN,
            "missing beside the rest of matrix.app_service",
            fix,
        );
        let fix = "set it to the URL that clients are told, wss://rtc.example.org/livekit/sfu";
        missing(
            "matrix.url",
            "needed by matrix.app_service: requests name it",
            fix,
        );
        let section = Self {
            server_name: values.text(SERVER_NAME),
            hs_token: Secret::new(values.text(HS_TOKEN)),
            as_token: Secret::new(values.text(AS_TOKEN)),
            membership_interval: values.duration(INTERVAL),
        };
        section.check(values, complaints);
        Some(section)
    }

    fn check(&self, values: &Values, complaints: &mut Complaints) {
        let name = &self.server_name;
        if !name.is_empty() && !is_authority(name) {
            let cause = format!("`{}` is no server name", quoted(name));
            let fix = "write for example example.org, without https://";
            complaints.error(SERVER_NAME, values.place(SERVER_NAME), cause, fix);
        }
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        for (key, token) in [(HS_TOKEN, &self.hs_token), (AS_TOKEN, &self.as_token)] {
            if !plain(token.reveal()) {
                let fix = "make a registration with `foci jwt registration`";
                let cause = "a token of characters that no header takes";
                complaints.error(key, values.place(key), cause, fix);
            }
        }
        if self.hs_token == self.as_token && !self.hs_token.reveal().is_empty() {
            let cause = "the same as hs_token: whoever sees one request could make all others";
            let fix = "make a registration with `foci jwt registration`";
            complaints.error(AS_TOKEN, values.place(AS_TOKEN), cause, fix);
        }
        let interval = self.membership_interval;
        if !interval.is_zero() && interval < INTERVAL_MIN {
            let cause = "less than 5 seconds";
            let fix = "write for example 1m, or 0 for never";
            complaints.error(INTERVAL, values.place(INTERVAL), cause, fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> (Option<AppService>, Vec<String>) {
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        values.read_yaml(yaml, "f", true, &mut complaints);
        let section = AppService::read(&values, &mut complaints);
        let lines = complaints.list().iter().map(ToString::to_string);
        (section, lines.collect())
    }

    #[test]
    fn a_section_is_complete_or_what_is_missing_is_told() {
        assert_eq!(read("{}"), (None, Vec::new()));
        let whole = "matrix: {url: 'wss://h', app_service: {server_name: a.example, hs_token: one, as_token: two}}";
        let (section, complaints) = read(whole);
        assert_eq!(complaints, Vec::<String>::new());
        let section = section.expect("a section");
        assert_eq!(section.membership_interval, Duration::from_secs(60));
        assert!(!format!("{section:?}").contains("two"));
        let (_, complaints) = read("matrix: {app_service: {server_name: a.example}}");
        for key in [HS_TOKEN, AS_TOKEN, "matrix.url"] {
            assert!(complaints.iter().any(|line| line.contains(key)), "{key}");
        }
        let off = "matrix: {enabled: false, app_service: {server_name: a.example}}";
        assert_eq!(read(off), (None, Vec::new()));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for wrong in [
            "server_name: 'https://a.example', hs_token: one, as_token: two",
            "server_name: a.example, hs_token: one, as_token: one",
            "server_name: a.example, hs_token: one, as_token: 'two words'",
            "server_name: a.example, hs_token: one, as_token: two, membership_interval: 1s",
        ] {
            let yaml = format!("matrix: {{url: 'wss://h', app_service: {{{wrong}}}}}");
            let (_, complaints) = read(&yaml);
            assert_eq!(complaints.len(), 1, "{wrong}: {complaints:?}");
        }
        let never = "server_name: a.example, hs_token: one, as_token: two, membership_interval: 0s";
        let yaml = format!("matrix: {{url: 'wss://h', app_service: {{{never}}}}}");
        let (section, complaints) = read(&yaml);
        assert!(complaints.is_empty(), "{complaints:?}");
        assert!(section.expect("a section").membership_interval.is_zero());
    }
}
