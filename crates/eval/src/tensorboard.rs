//! Records as event files that TensorBoard reads.
//!
//! The crates that write such files are not kept (the latest releases of `tensorboard-rs`, `tfrecord` and `tboard` are of
//! 2022 to 2024), and the format is two lines of a document: an event is a protobuf message (`event.proto` and
//! `summary.proto` of TensorFlow, of which the fields below are a part), framed as length, checksum, message,
//! checksum. So the messages are `prost`'s, the checksums `crc32c`'s, and the frame is here.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use crate::record::replace_file;
use crate::{EvalError, RunRecord};

/// `tensorflow.Event`
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes a run's event file to `folder/TASK-RULE-SEED`, as `tensorboard --logdir folder` expects it; returns the file.
///
/// Metrics after each epoch are `eval/NAME` and `train/NAME` at that epoch; η, gate, clip and norm along the sequence
/// are `sequence/NAME` at each step. A record knows how long the run took, not when: times count from 1970, and
/// epochs are spread evenly over the run's duration.
///
/// # Errors
/// [`EvalError::ReportWrite`] when the file cannot be written.
pub fn write_events(record: &RunRecord, folder: &Path) -> Result<PathBuf, EvalError> {
    let run = folder.join(format!("{}-{}-{}", record.task, record.rule, record.seed));
    let path = run.join("events.out.tfevents.0.plastica");
    let write = |out: &mut dyn Write| events(record).iter().try_for_each(|event| frame(event, out));
    replace_file(&path, write).map_err(|source| EvalError::ReportWrite { path: path.clone(), source })?;
    Ok(path)
}

fn events(record: &RunRecord) -> Vec<Event> {
    let version = Event { file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
    let mut events = vec![version];
    let epochs = record.history.len().max(1) as f64;
    for (i, epoch) in record.history.iter().enumerate() {
        let tag = |name: &str| match name.strip_prefix("train_") {
            Some(name) => format!("train/{name}"),
            None => format!("eval/{name}"),
        };
        let values = epoch.metrics.iter().map(|(name, &value)| scalar(tag(name), value));
        events.push(event(record.wall_seconds * (i + 1) as f64 / epochs, epoch.epoch, values));
    }
    if let Some(trace) = &record.trace {
        for step in 0..trace.phases.len() {
            let value = |(name, values): (&str, &[f64])| {
                values.get(step).map(|&value| scalar(format!("sequence/{name}"), value))
            };
            events.push(event(record.wall_seconds, step + 1, trace.named().into_iter().filter_map(value)));
        }
    }
    events
}

fn event(wall_time: f64, step: usize, values: impl Iterator<Item = Value>) -> Event {
    Event {
        wall_time,
        step: step as i64,
        file_version: None,
        summary: Some(Summary { value: values.collect() }),
    }
}

fn scalar(tag: String, value: f64) -> Value {
    Value { tag, simple_value: Some(value as f32) }
}

/// A TFRecord: the message between its length and its checksum.
fn frame(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(&length).to_le_bytes())?;
    out.write_all(&message)?;
    out.write_all(&masked(&message).to_le_bytes())
}

/// The checksum as TFRecord has it: CRC-32C, rotated and shifted so that a checksum of checksums is none of itself.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use plastica_tasks::Phase;
    use serde_json::json;

    use super::*;
    use crate::{EpochRecord, RunStatus, StepTrace};

    fn record() -> RunRecord {
        let metrics = [("loss".to_owned(), 0.5), ("train_loss".to_owned(), 0.75)];
        let trace = StepTrace {
            phases: vec![Phase::Shown, Phase::Recall],
            eta: vec![0.1, 0.2],
            gate: vec![0.5, 0.6],
            clip: vec![1.0, 0.9],
            plastic_norm: vec![1e-6, 2e-6],
        };
        RunRecord {
            crate_version: crate::VERSION.to_owned(),
            task: "copying".to_owned(),
            rule: "hebbian".to_owned(),
            credit: "full".to_owned(),
            protocol: "paper".to_owned(),
            seed: 7,
            config: json!({}),
            history: [1, 2].map(|epoch| EpochRecord { epoch, metrics: metrics.clone().into() }).into(),
            final_metrics: metrics.into(),
            trace: Some(trace),
            fingerprint: String::new(),
            devices: Vec::new(),
            wall_seconds: 10.0,
            status: RunStatus::Finished,
        }
    }

    /// The messages of a file, whose frames and checksums have to be right.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(12);
            assert_eq!(masked(&head[..8]).to_le_bytes(), head[8..]);
            let (message, rest) = rest.split_at(u64::from_le_bytes(head[..8].try_into().unwrap()) as usize);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(masked(message).to_le_bytes(), sum);
            events.push(Event::decode(message).unwrap());
            bytes = rest;
        }
        events
    }

    #[test]
    fn every_figure_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_events(&record(), folder.path()).unwrap();
        assert!(path.ends_with("copying-hebbian-7/events.out.tfevents.0.plastica"));
        let events = read(&std::fs::read(path).unwrap());
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let scalars = |event: &Event| -> Vec<(String, f32)> {
            event
                .summary
                .iter()
                .flat_map(|s| &s.value)
                .map(|v| (v.tag.clone(), v.simple_value.unwrap()))
                .collect()
        };
        let epoch = [("eval/loss".to_owned(), 0.5), ("train/loss".to_owned(), 0.75)];
        assert_eq!((events[1].step, events[1].wall_time, scalars(&events[1])), (1, 5.0, epoch.to_vec()));
        assert_eq!((events[2].step, events[2].wall_time), (2, 10.0));
        let last: Vec<(String, f32)> = [("eta", 0.2), ("gate", 0.6), ("clip", 0.9), ("plastic_norm", 2e-6)]
            .map(|(name, value)| (format!("sequence/{name}"), value))
            .into();
        assert_eq!((events.len(), events[4].step, scalars(&events[4])), (5, 2, last));
    }

    /// A frame byte by byte, and the checksum against a published one.
    #[test]
    fn the_frame_is_a_tfrecords() {
        let event = Event { file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
        let mut bytes = Vec::new();
        frame(&event, &mut bytes).unwrap();
        // two bytes of field and length, 13 of text; RFC 3720 has the checksum of 32 zero bytes, 0x8a9136aa
        assert_eq!(bytes[..8], 15_u64.to_le_bytes());
        assert_eq!(masked(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        assert_eq!(&bytes[12..14], [0x1a, 13]); // field 3, a string of 13 bytes
    }
}
