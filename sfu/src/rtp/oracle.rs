//! A second, independent RTCP implementation for tests to compare ours with; named only here.

pub(super) use rtc_rtcp::packet::unmarshal;
pub(super) use rtc_rtcp::receiver_report::ReceiverReport;
pub(super) use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
pub(super) use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
