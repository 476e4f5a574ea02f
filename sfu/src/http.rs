//! The HTTP edge: one router, the signalling socket, what an operator looks at.
pub mod cors;
pub mod secure;
pub mod challenge;
pub mod connection;
pub mod front;
pub mod admin;
pub mod gate;
pub mod websocket;
pub mod try_page;
pub mod router;
pub mod alone;
