//! Where series are made: the registry of the crate prometheus, with our labels.
//!
//! Owns the labels every series has. Which series there are is for `series`.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::HashMap;

/// Makes and registers series. Names and labels are constants of `series` and a test registers
/// all of them, so it cannot fail at run time.
pub(super) struct Shelf(pub(super) Registry);

const SOUND: &str = "metric names are valid and differ";

impl Shelf {
    pub(super) fn new(node_id: &str) -> Self {
        let labels = HashMap::from([
            ("node_id".to_owned(), node_id.to_owned()),
            ("node_type".to_owned(), "SERVER".to_owned()),
        ]);
        Self(Registry::new_custom(None, Some(labels)).expect(SOUND))
    }

    pub(super) fn put<C: Collector + Clone + 'static>(&self, series: prometheus::Result<C>) -> C {
        let series = series.expect(SOUND);
        self.0.register(Box::new(series.clone())).expect(SOUND);
        series
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.put(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.put(IntGauge::new(name, help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.put(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.put(Histogram::with_opts(options))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.put(HistogramVec::new(options, labels))
    }
}
