//! A follower sees what a reader of the whole log sees, however the bytes arrive.

use std::io::Write;

use super::log::encode;
use super::tests::{header, record};
use super::*;

#[test]
fn every_record_is_seen_once_however_the_bytes_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, _) = RunWriter::open_or_resume(folder.path(), &header()).unwrap();
    drop(writer);
    let records: Vec<SampleRecord> = (0..3).map(record).collect();
    let mut bytes = Vec::new();
    for index in [0, 1] {
        encode(&records[index], &mut bytes).unwrap();
    }
    bytes.extend_from_slice(b"no record\n");
    // A second record of a sample does not count.
    encode(&records[0], &mut bytes).unwrap();
    encode(&records[2], &mut bytes).unwrap();
    let path = folder.path().join(LOG_FILE);
    for step in [1, 7, 501, bytes.len()] {
        std::fs::write(&path, b"").unwrap();
        let mut follower = RunFollower::open(folder.path()).unwrap();
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let mut seen = Vec::new();
        for part in bytes.chunks(step) {
            log.write_all(part).unwrap();
            let followed = follower.follow().unwrap();
            assert!(!followed.restarted);
            seen.extend(followed.records);
        }
        assert_eq!(seen, records, "{step} bytes at a time");
        assert_eq!(follower.damaged(), 1);
    }
}

#[test]
fn a_run_begun_anew_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, _) = RunWriter::open_or_resume(folder.path(), &header()).unwrap();
    writer.append(&[record(0), record(1)]).unwrap();
    drop(writer);
    let mut follower = RunFollower::open(folder.path()).unwrap();
    assert_eq!(follower.follow().unwrap().records.len(), 2);
    assert_eq!(follower.follow().unwrap(), Followed { restarted: false, records: Vec::new() });
    // A shorter log of the same run.
    std::fs::write(folder.path().join(LOG_FILE), b"").unwrap();
    assert_eq!(follower.follow().unwrap(), Followed { restarted: true, records: Vec::new() });
    // Another run whose log is longer than the old one was when it is looked at.
    for file in [HEADER_FILE, LOG_FILE] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert!(follower.follow().is_err());
    let again = RunHeader { started: "2025-11-24T07:00:00Z".into(), ..header() };
    let (mut writer, _) = RunWriter::open_or_resume(folder.path(), &again).unwrap();
    writer.append(&(0..4).map(record).collect::<Vec<_>>()).unwrap();
    let followed = follower.follow().unwrap();
    assert!(followed.restarted && followed.records.len() == 4);
    assert_eq!(follower.header().started, again.started);
}
