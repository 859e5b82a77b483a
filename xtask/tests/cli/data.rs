//! `data`: fetching from a server that is not always well, from a folder, and verifying what is there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use plastica_tasks::ArchiveIdentity;

use crate::support::{Ended, FAILURE, Folder, USAGE};

const PART: &str = "data/set/one.zip.part";
const WHOLE: &str = "data/set/one.zip";
const REJECTED: &str = "data/set/one.zip.rejected";
const LOCK: &str = "data/set/checksums.lock";

/// The archive of the tests. Nothing looks inside.
fn content() -> Vec<u8> {
    (0..200_000u32).map(|number| (number.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    ArchiveIdentity::of(bytes, false, &mut |_| {}).unwrap().sha256
}

/// A data folder with the manifest of one set, whose archive has these lines besides its name.
fn folder(lines: &str) -> Folder {
    let folder = Folder::new();
    let manifest = format!(
        r#"
        name = "set"
        about = "a set"
        licence = "MIT"
        homepage = "https://example.org"
        folder = "set"
        images = {{ format = "omniglot", height = 8, width = 8 }}
        part = [{{ name = "one", archive = "one.zip", classes = 1, images_per_class = 1 }}]
        scheme = [{{ name = "all", about = "all", train = {{}} }}]
        [[archive]]
        file = "one.zip"
        {lines}
        "#
    );
    folder.write("data/set.toml", manifest);
    folder
}

/// The same with the archive's checksum and size.
fn folder_with_checksum() -> Folder {
    folder(&format!("sha256 = \"{}\"\nsize = {}", sha256(&content()), content().len()))
}

#[track_caller]
fn run(folder: &Folder, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["--quiet", "data"]).args(arguments).current_dir(folder.path("."));
    command.env("PLASTICA_DATASETS", folder.path("data")).env("RUST_BACKTRACE", "0");
    for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended =
        Ended { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

#[track_caller]
fn succeeds(folder: &Folder, arguments: &[&str], parts: &[&str]) {
    let ended = run(folder, arguments);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    for part in parts {
        assert!(ended.stdout.contains(part), "{part:?} is missing from\n{}", ended.stdout);
    }
}

#[track_caller]
fn refuses(folder: &Folder, arguments: &[&str], status: i32, parts: &[&str]) {
    let ended = run(folder, arguments);
    assert_eq!(ended.status, Some(status), "{ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} is missing from\n{}", ended.stderr);
    }
}

/// What a server answers: the lines of the head, and the body.
type Answer = (String, Vec<u8>);

fn answer(status: &str, headers: &str, body: &[u8]) -> Answer {
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    (head, body.to_owned())
}

/// A server on this machine, its address, and the ranges it has been asked for.
struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    /// One that gives `answer` the number of the request and the range that it asks for.
    fn new(answer: impl Fn(usize, Option<&str>) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/base", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ranges);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                assert_eq!(head[0], "GET /base/one.zip HTTP/1.1");
                let range = head.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("range").then(|| value.to_owned())
                });
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(range.clone());
                    seen.len() - 1
                };
                let (head, body) = answer(number, range.as_deref());
                // A client that has seen enough may have gone.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, ranges }
    }

    /// One that is well and knows ranges.
    fn well() -> Self {
        Self::new(|_, range| in_range(range))
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.lock().unwrap().clone()
    }
}

/// The rest of the archive from where it is asked for.
fn in_range(range: Option<&str>) -> Answer {
    let content = content();
    let Some(range) = range else { return answer("200 OK", "", &content) };
    let begin: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    if begin >= content.len() {
        let header = format!("Content-Range: bytes */{}\r\n", content.len());
        return answer("416 Range Not Satisfiable", &header, b"");
    }
    let header = format!("Content-Range: bytes {begin}-{}/{}\r\n", content.len() - 1, content.len());
    answer("206 Partial Content", &header, &content[begin..])
}

/// An answer whose body ends too early.
fn cut(answer: Answer, end: usize) -> Answer {
    (answer.0, answer.1[..end].to_owned())
}

#[track_caller]
fn fetched(folder: &Folder, server: &Server, ranges: &[Option<&str>]) {
    succeeds(
        folder,
        &["fetch", "set", "--mirror", &server.address],
        &["one.zip: fetched from", &server.address],
    );
    assert_eq!(folder.read(WHOLE), content());
    assert!(!folder.path(PART).exists());
    let ranges: Vec<_> = ranges.iter().map(|range| range.map(str::to_owned)).collect();
    assert_eq!(server.ranges(), ranges);
}

#[test]
fn an_archive_is_fetched_once() {
    let (folder, server) = (folder_with_checksum(), Server::well());
    fetched(&folder, &server, &[None]);
    succeeds(&folder, &["fetch", "set", "--mirror", &server.address], &["one.zip: already there"]);
    succeeds(&folder, &["verify", "set"], &["set: one.zip: as published"]);
    succeeds(&folder, &["list"], &["set: there"]);
    assert_eq!(server.ranges().len(), 1);
    assert!(!folder.path(LOCK).exists());
}

#[test]
fn a_download_is_taken_up_where_it_was_left() {
    let (folder, server) = (folder_with_checksum(), Server::well());
    folder.write(PART, &content()[..1234]);
    fetched(&folder, &server, &[Some("bytes=1234-")]);
}

#[test]
fn a_download_that_was_whole_is_not_fetched_again() {
    let (first, server) = (folder_with_checksum(), Server::well());
    first.write(PART, content());
    fetched(&first, &server, &[]);
    // Without a size the server has to say so.
    let second = folder("");
    second.write(PART, content());
    fetched(&second, &server, &[Some("bytes=200000-")]);
}

#[test]
fn a_part_that_is_too_long_is_begun_anew() {
    let (first, server) = (folder_with_checksum(), Server::well());
    first.write(PART, vec![0; 200_001]);
    fetched(&first, &server, &[None]);
    let (second, server) = (folder(""), Server::well());
    second.write(PART, vec![0; 200_001]);
    fetched(&second, &server, &[Some("bytes=200001-"), None]);
}

#[test]
fn a_server_without_ranges_gives_it_all_again() {
    let (folder, server) = (folder_with_checksum(), Server::new(|_, _| answer("200 OK", "", &content())));
    folder.write(PART, &content()[..1234]);
    fetched(&folder, &server, &[Some("bytes=1234-")]);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_used() {
    let server = Server::new(|number, range| match number {
        0 => answer("206 Partial Content", "Content-Range: bytes 7-199999/200000\r\n", &content()[7..]),
        _ => in_range(range),
    });
    let folder = folder_with_checksum();
    folder.write(PART, &content()[..1234]);
    fetched(&folder, &server, &[Some("bytes=1234-"), None]);
}

#[test]
fn a_body_that_ends_early_is_gone_on_with() {
    let server = Server::new(|number, range| match number {
        0 => cut(in_range(range), 50_000),
        1 => cut(in_range(range), 60_000),
        _ => in_range(range),
    });
    fetched(&folder_with_checksum(), &server, &[None, Some("bytes=50000-"), Some("bytes=110000-")]);
}

#[test]
fn an_error_that_may_pass_is_tried_again_and_one_that_will_not_is_not() {
    let server = Server::new(|number, range| match number {
        0 => answer("500 Internal Server Error", "", b"sorry"),
        1 => answer("429 Too Many Requests", "", b"later"),
        _ => in_range(range),
    });
    fetched(&folder_with_checksum(), &server, &[None, None, None]);

    let (folder, server) = (folder_with_checksum(), Server::new(|_, _| answer("404 Not Found", "", b"no")));
    let parts = ["one.zip", &server.address, "the server answered 404 Not Found, expected 200 OK"];
    refuses(&folder, &["fetch", "set", "--mirror", &server.address], FAILURE, &parts);
    assert_eq!((server.ranges().len(), folder.path(WHOLE).exists()), (1, false));
}

#[test]
fn a_server_that_stays_ill_is_given_up_and_what_came_is_kept() {
    let server = Server::new(|number, range| match number {
        0 => cut(in_range(range), 50_000),
        _ => answer("503 Service Unavailable", "", b""),
    });
    let folder = folder_with_checksum();
    let parts = ["given up after 4 tries without progress", "503 Service Unavailable"];
    refuses(&folder, &["fetch", "set", "--mirror", &server.address], FAILURE, &parts);
    assert_eq!((server.ranges().len(), folder.path(WHOLE).exists()), (5, false));
    assert_eq!(folder.read(PART), content()[..50_000]);
}

#[test]
fn another_file_is_refused_and_kept_aside() {
    let other = || content().into_iter().rev().collect::<Vec<u8>>();
    let server = Server::new(move |_, _| answer("200 OK", "", &other()));
    let folder = folder_with_checksum();
    let expected = format!("sha256 is {}, expected {}", sha256(&other()), sha256(&content()));
    refuses(
        &folder,
        &["fetch", "set", "--mirror", &server.address],
        FAILURE,
        &[&server.address, &expected, "what came is kept as", "one.zip.rejected"],
    );
    assert_eq!((folder.read(REJECTED), folder.path(WHOLE).exists()), (other(), false));

    let server = Server::new(|_, _| answer("200 OK", "", b"short"));
    let parts = ["the server has 5 bytes, expected 200000"];
    refuses(&folder, &["fetch", "set", "--mirror", &server.address], FAILURE, &parts);
}

#[test]
fn a_wrong_file_in_the_folder_is_told_and_replaced_and_kept_aside() {
    let (folder, server) = (folder_with_checksum(), Server::well());
    folder.write(WHOLE, b"wrong");
    let parts = ["failed: ", "one.zip: size is 5, expected 200000", "`cargo xtask data fetch set`"];
    refuses(&folder, &["verify"], FAILURE, &parts);
    succeeds(
        &folder,
        &["fetch", "set", "--mirror", &server.address],
        &["size is 5, expected 200000", "is kept as", "one.zip.rejected"],
    );
    assert_eq!((folder.read(WHOLE), folder.read(REJECTED)), (content(), b"wrong".to_vec()));
}

#[test]
fn what_has_no_checksum_is_held_to_the_first_download() {
    let (folder, server) = (folder(""), Server::well());
    let recorded = format!("no checksum is published, recorded sha256 {}", sha256(&content()));
    succeeds(&folder, &["fetch", "set", "--mirror", &server.address], &[&recorded]);
    assert!(String::from_utf8(folder.read(LOCK)).unwrap().contains(&sha256(&content())));
    succeeds(&folder, &["verify", "set"], &["as it was first recorded"]);
    folder.write(WHOLE, content().into_iter().rev().collect::<Vec<u8>>());
    refuses(&folder, &["verify", "set"], FAILURE, &["sha256 is", "expected", &sha256(&content())]);
    // A file that was put there by hand is recorded when it is first verified.
    fs::remove_file(folder.path(LOCK)).unwrap();
    succeeds(&folder, &["verify", "set"], &["recorded now"]);
    succeeds(&folder, &["verify", "set"], &["as it was first recorded"]);
}

#[test]
fn a_folder_serves_as_a_mirror_in_either_layout() {
    for place in ["mirror/set/one.zip", "mirror/one.zip"] {
        let folder = folder_with_checksum();
        folder.write(place, content());
        // What an earlier download left is of no use here.
        folder.write(PART, b"something else");
        succeeds(&folder, &["fetch", "set", "--mirror", "mirror"], &["one.zip: fetched from mirror"]);
        assert_eq!(folder.read(WHOLE), content());
    }
    let folder = folder_with_checksum();
    folder.write("mirror/two.zip", content());
    let parts = ["mirror mirror: there is no set/one.zip and no one.zip, expected one of them"];
    refuses(&folder, &["fetch", "set", "--mirror", "mirror"], FAILURE, &parts);
    folder.write("mirror/one.zip", b"wrong");
    let parts = ["mirror/one.zip: size is 5, expected 200000", "one.zip.rejected"];
    refuses(&folder, &["fetch", "set", "--mirror", "mirror"], FAILURE, &parts);
    assert!(!folder.path(WHOLE).exists());
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, server) = (folder_with_checksum(), Server::well());
    let mode = |mode| fs::set_permissions(folder.path("data"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let parts = ["data: it is read-only, expected a folder to write to; PLASTICA_DATASETS names another"];
    refuses(&folder, &["fetch", "set", "--mirror", &server.address], FAILURE, &parts);
    mode(0o755);
    assert_eq!((server.ranges().len(), folder.path("data/set").exists()), (0, false));
}

#[test]
fn what_cannot_be_had_is_told() {
    let folder = folder("");
    refuses(&folder, &["fetch", "sets"], USAGE, &["unknown image set `sets`, did you mean `set`?"]);
    refuses(&folder, &["verify", "sets"], USAGE, &["unknown image set `sets`"]);
    refuses(&folder, &["fetch", "set"], FAILURE, &["one.zip has no public address; --mirror DIR_OR_URL"]);
    refuses(
        &folder,
        &["verify", "set"],
        FAILURE,
        &["there is no", "one.zip", "`cargo xtask data fetch set`"],
    );
    succeeds(
        &folder,
        &["verify"],
        &["set: one.zip: not there", "omniglot: images_background.zip: not there"],
    );
    succeeds(
        &folder,
        &["list"],
        &["set: not there", "omniglot-minimal: not there", "natural-100: not there"],
    );
    folder.write("data/bad.toml", "name = 3");
    refuses(&folder, &["list"], FAILURE, &["manifest ", "bad.toml"]);
}
