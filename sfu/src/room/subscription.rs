//! Room: subscription.
