//! A participant's media endpoint: one transport, what it publishes, what it receives.
