//! The authorization service alone: its variables over a configuration file.

use crate::config::check::NO_KEYS;
use crate::config::companion::{Below, Companion, Environment, OVER, URL, VARIABLES};
use crate::config::complaint::{Complaint, Place, Severity};
use crate::config::raw::Value;
use crate::settings::{Loaded, Sources, file};
use std::path::Path;

/// Why it cannot start.
#[derive(Debug)]
pub enum Unusable {
    /// The file is wrong; everything that is.
    File(Box<Loaded>),
    /// A variable is; the text for stderr.
    Variable(String),
}

impl Sources {
    /// Reads the file, if there is one, and the variables of lk-jwt-service over it.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn companion(&self) -> Result<(Companion, Loaded), Unusable> {
        let ours = |name: &str| VARIABLES.contains(&name);
        let mut sources = self.clone();
        sources.variables.retain(|(name, _)| !ours(name));
        let has_text = sources.file.is_some() || sources.variable("LIVEKIT_CONFIG").is_some();
        if !has_text {
            // Nothing configured would be development mode, with keys that everybody knows.
            let body = sources.body.get_or_insert_default();
            if body.is_empty() {
                body.push_str("{}");
            }
        }
        let loaded = sources.load_below(|values| {
            // A file that the server shares may have switched it off there; here there is nothing else.
            values.set("matrix.enabled", Value::Bool(true), Place::Default);
            if let Some(text) = self.variable(URL) {
                let place = Place::Variable(URL.to_owned());
                values.set("matrix.url", Value::Text(text.to_owned()), place);
            }
        });
        self.companion_over(loaded)
    }

    /// The same over a file that was read before.
    ///
    /// # Errors
    /// As above.
    pub fn companion_over(&self, loaded: Loaded) -> Result<(Companion, Loaded), Unusable> {
        // Keys may come from the variables, and what is wrong with their URL is told in other words.
        let url = Place::Variable(URL.to_owned());
        let is_wrong = |complaint: &Complaint| {
            complaint.severity == Severity::Error
                && complaint.cause != NO_KEYS
                && complaint.place != url
        };
        if loaded.complaints.list().iter().any(is_wrong) {
            return Err(Unusable::File(Box::new(loaded)));
        }
        let variable = |name: &str| {
            let found = self.variables.iter().find(|(known, _)| known == name);
            found.map(|(_, text)| text.clone())
        };
        let environment = Environment {
            variable: &variable,
            file: &|path| file::read_bounded(Path::new(path)),
        };
        let below = Below {
            config: &loaded.config,
            names_homeservers: loaded.values.is_set("matrix.full_access_homeservers"),
        };
        let companion = environment.companion(below).map_err(Unusable::Variable)?;
        Ok((companion, loaded))
    }

    /// Does a key of the file concern the service alone, and does no variable say something else?
    #[must_use]
    pub fn concerns_companion(&self, path: &str) -> bool {
        const SECTIONS: [&str; 4] = ["matrix.", "keys", "logging.", "prometheus."];
        const OTHERS: [&str; 3] = ["key_file", "http.trusted_proxies", "http.path_prefixes"];
        let is_read = SECTIONS.iter().any(|section| path.starts_with(section));
        let mut over = OVER.iter().filter(|(_, key)| *key == path);
        (is_read || OTHERS.contains(&path))
            && !over.any(|(variable, _)| self.variable(variable).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(body: Option<&str>, variables: &[(&str, &str)]) -> Sources {
        let variables = variables.iter();
        Sources {
            body: body.map(str::to_owned),
            variables: variables
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            ..Sources::default()
        }
    }

    const NEEDED: [(&str, &str); 4] = [
        ("LIVEKIT_URL", "wss://rtc.example"),
        ("LIVEKIT_KEY", "key"),
        ("LIVEKIT_SECRET", "a-secret-that-is-long-enough-for-all"),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", "example.com, b.example"),
    ];

    #[test]
    fn variables_alone_are_enough_and_bring_no_complaint() {
        let (companion, loaded) = sources(None, &NEEDED).companion().expect("good");
        assert!(!loaded.config.development);
        assert_eq!(companion.keys.first().map(|(key, _)| key), Some("key"));
        let complaints = loaded.complaints.list().iter();
        let others: Vec<_> = complaints.filter(|one| one.cause != NO_KEYS).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    #[test]
    fn nothing_at_all_is_no_development_mode() {
        let error = sources(None, &[]).companion().expect_err("nothing");
        assert!(matches!(error, Unusable::Variable(_)), "{error:?}");
    }

    #[test]
    fn a_file_is_judged_as_the_server_s_and_other_variables_set_its_keys() {
        let wrong = sources(Some("matrix: {urll: x}"), &NEEDED);
        let error = wrong.companion().expect_err("no such key");
        assert!(matches!(error, Unusable::File(_)), "{error:?}");
        let more = [("LIVEKIT_MATRIX_RESTRICTED_ACCESS", "refuse")];
        let (companion, _) = sources(Some("keys: {k: s}"), &[&NEEDED[..], &more].concat())
            .companion()
            .expect("good");
        let refuse = crate::config::check::matrix::Restricted::Refuse;
        assert_eq!(companion.matrix.restricted, refuse);
    }

    const OURS: &str = "app_service: {server_name: example.com, hs_token: one, as_token: two}";

    #[test]
    fn an_application_service_is_one_though_the_server_s_part_is_switched_off() {
        let yaml = format!("matrix: {{enabled: false, url: 'wss://rtc.example', {OURS}}}");
        let (companion, _) = sources(Some(&yaml), &NEEDED).companion().expect("good");
        let ours = companion.matrix.app_service.expect("a section");
        assert_eq!(ours.server_name, "example.com");
        assert!(companion.matrix.enabled);
    }

    #[test]
    fn an_application_service_takes_the_url_of_the_variable() {
        let yaml = format!("matrix: {{{OURS}}}");
        let (companion, _) = sources(Some(&yaml), &NEEDED).companion().expect("good");
        assert!(companion.matrix.app_service.is_some());
        assert_eq!(companion.matrix.url.as_deref(), Some("wss://rtc.example"));
        let without = sources(Some(&yaml), &NEEDED[1..]).companion();
        let Err(Unusable::File(loaded)) = without else {
            panic!("{without:?}");
        };
        let complaints = loaded.complaints.list().iter();
        let mut lines = complaints.map(ToString::to_string);
        assert!(lines.any(|line| line.contains("needed by matrix.app_service")));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_in_the_system_s_words() {
        let absent = [("LIVEKIT_KEY_FILE", "/nowhere/at/all")];
        let error = sources(None, &[&NEEDED[..], &absent].concat())
            .companion()
            .expect_err("absent");
        let Unusable::Variable(text) = error else {
            panic!("{error:?}");
        };
        assert!(text.contains("No such file"), "{text}");
    }
}
