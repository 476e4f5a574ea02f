//! What the authorization service reads of others: requests for tokens, a homeserver's answers, and its
//! transactions.

use jwt_service::matrix::proxied::{self, Subject};
use jwt_service::matrix::{
    ServerName, belongs_to, delegated_server, userinfo_path, userinfo_subject,
};
use jwt_service::request::proxied as request;
use jwt_service::request::{Asked, Member};

/// Bodies of the endpoints, those of a homeserver's own requests included.
pub(crate) fn openid_request(bytes: &[u8]) {
    if let Ok((place, _)) = request::token(bytes) {
        let texts = [&place.url, &place.room_id, &place.slot_id, &place.member_id];
        assert!(texts.iter().all(|text| !text.is_empty()));
        if let Some(path) = proxied::joined_path(&place.room_id, Subject::User(&place.member_id)) {
            assert!(path.is_ascii() && path.matches('/').count() == 7, "{path}");
        }
    }
    let _ = request::federated(bytes);
    if let Ok(handed) = request::leave(bytes)
        && let Some(path) = proxied::delayed_path(&handed.delay_id, &handed.place.member_id)
    {
        assert!(path.is_ascii() && path.matches('/').count() == 6, "{path}");
    }
    for read in [Asked::older, Asked::newer] {
        let Ok(asked) = read(bytes) else { continue };
        let token = &asked.open_id.access_token;
        assert!(!asked.room.is_empty() && !token.is_empty() && !asked.open_id.server.is_empty());
        let shown = format!("{asked:?}");
        // One that stands elsewhere in the body too may be told as something else.
        let text = String::from_utf8_lossy(bytes);
        if token.len() > 12 && text.matches(token.as_str()).count() == 1 {
            assert!(!shown.contains(token.as_str()));
        }
        match &asked.member {
            Member::Device { .. } => assert!(asked.slot.is_none()),
            Member::Claimed { id, user, device } => {
                assert!(asked.slot.is_some());
                assert!(!id.is_empty() && !user.is_empty() && !device.is_empty());
            }
        }
        if let Some(path) = userinfo_path(token) {
            assert!(
                path.is_ascii() && !path.contains(|c: char| c.is_whitespace() || c.is_control())
            );
            assert!(path.len() <= 3 * token.len() + 100);
        }
        server_name(&asked.open_id.server);
    }
}

/// What a homeserver says: its well-known file, and whose a token is.
pub(crate) fn well_known(bytes: &[u8]) {
    if let Some(server) = delegated_server(bytes) {
        server_name(server.as_str());
    }
    if let Some(user) = userinfo_subject(bytes) {
        assert!(user.len() <= bytes.len());
        if let Some((_, name)) = user.split_once(':')
            && belongs_to(&user, name)
        {
            assert!(!belongs_to(&user, &format!("{name}x")));
        }
    }
    let _ = (
        proxied::joined(bytes),
        proxied::delayed(bytes),
        proxied::from_another(bytes),
    );
    if let Some(changes) = proxied::changes(bytes) {
        // Each is written out in full.
        assert!(changes.len() <= bytes.len() / 20);
    }
    server_name(&String::from_utf8_lossy(bytes));
}

fn server_name(text: &str) {
    if let Some(name) = ServerName::parse(text) {
        assert_eq!(name.as_str(), text);
        let safe = |c: char| c.is_ascii_graphic() && !"/?#@\\\\".contains(c);
        assert!(text.chars().all(safe), "{text:?} goes into an HTTP request");
        let _ = (name.host(), name.unresolved(), name.direct(8448));
    }
}
