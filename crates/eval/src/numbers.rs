//! Floats in JSON without a loss: JSON has no NaN and no infinity, so the file has them as the strings `"NaN"`,
//! `"inf"` and `"-inf"`. Every f64 but a NaN's payload survives writing and reading.

use std::collections::BTreeMap;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers by name.
pub(crate) mod metrics {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(name, &value)| (name, Metric(value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, Metric>::deserialize(from)?;
        Ok(map.into_iter().map(|(name, Metric(value))| (name, value)).collect())
    }
}

/// One number.
pub(crate) mod number {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        Metric(*value).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Metric::deserialize(from)?.0)
    }
}

/// A list of numbers.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().copied().map(Metric))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Metric>::deserialize(from)?.into_iter().map(|Metric(value)| value).collect())
    }
}

struct Metric(f64);

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() { to.serialize_f64(self.0) } else { to.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MetricVisitor)
    }
}

struct MetricVisitor;

impl Visitor<'_> for MetricVisitor {
    type Value = Metric;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(r#"a number, "NaN", "inf" or "-inf""#)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Metric, E> {
        Ok(Metric(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Metric, E> {
        Ok(Metric(value as f64))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Metric, E> {
        Ok(Metric(value as f64))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Metric, E> {
        match value {
            "NaN" => Ok(Metric(f64::NAN)),
            "inf" => Ok(Metric(f64::INFINITY)),
            "-inf" => Ok(Metric(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
        }
    }
}
