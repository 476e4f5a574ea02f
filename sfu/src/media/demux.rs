//! Whose datagram is it: STUN by ufrag, everything else by address.
