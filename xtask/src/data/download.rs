//! Downloading a file over HTTP: resumed where it was left, tried again where that may help.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::thread::sleep;
use std::time::Duration;

use anyhow::anyhow;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use ureq::http::{HeaderMap, StatusCode};
use ureq::{Agent, Body, http::Response};

use crate::progress::Progress;

/// Tries without a new byte, after which it is given up.
const TRIES: u32 = 4;
/// Wait after the first failed try; each further wait is twice as long.
const WAIT: Duration = Duration::from_millis(500);
/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// Why a try failed.
enum Trouble {
    /// Another try may do better.
    Passing(anyhow::Error),
    /// None will.
    Lasting(anyhow::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Passing(error.into())
    }
}

/// Downloads `address` into `file`, which may have the beginning already; of `size` bytes where that is known, and of
/// no more than `limit`.
pub fn download(
    address: &str,
    size: Option<u64>,
    limit: u64,
    file: &mut File,
    progress: &Progress,
) -> anyhow::Result<()> {
    let agent = agent(address);
    let (mut most, mut tries) = (length(file)?, 0);
    loop {
        let error = match attempt(&agent, address, size, limit, file, progress) {
            Ok(()) => return Ok(()),
            Err(Trouble::Lasting(error)) => return Err(error.context(address.to_owned())),
            Err(Trouble::Passing(error)) => error,
        };
        let now = length(file)?;
        tries = if now > most { 0 } else { tries + 1 };
        most = most.max(now);
        if tries == TRIES {
            return Err(error.context(format!("{address}: given up after {TRIES} tries without progress")));
        }
        sleep(WAIT * 2u32.pow(tries.saturating_sub(1)));
    }
}

fn agent(address: &str) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // What is published over https is not taken over http, wherever a redirect points.
        .https_only(address.starts_with("https://"))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("plastica/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// One request, for what is still missing.
fn attempt(
    agent: &Agent,
    address: &str,
    size: Option<u64>,
    limit: u64,
    file: &mut File,
    progress: &Progress,
) -> Result<(), Trouble> {
    let mut have = length(file)?;
    if have > limit {
        empty(file)?;
        have = 0;
    }
    if size == Some(have) {
        return Ok(());
    }
    let mut request = agent.get(address).header(ACCEPT_ENCODING, "identity");
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.call().map_err(trouble)?;
    let begin = match begin(&response, have)? {
        Begin::At(begin) => begin,
        Begin::Complete => return Ok(()),
        Begin::Anew(why) => {
            empty(file)?;
            return Err(Trouble::Passing(why));
        }
    };
    let told = number(response.headers(), CONTENT_LENGTH.as_str()).and_then(|rest| begin.checked_add(rest));
    if let (Some(size), Some(told)) = (size, told)
        && size != told
    {
        let error = anyhow!("the server has {told} bytes, expected {size}");
        return Err(Trouble::Lasting(error));
    }
    file.set_len(begin)?;
    file.seek(SeekFrom::Start(begin))?;
    progress.position(begin);
    let mut body = response.into_body().into_reader().take((limit - begin).saturating_add(1));
    pour(&mut body, file, |bytes| progress.advance(address, bytes))?;
    let now = length(file)?;
    if now > limit {
        let error = anyhow!("the server gives more than {limit} bytes, expected no more");
        return Err(Trouble::Lasting(error));
    }
    match size.or(told).filter(|&whole| now != whole) {
        Some(whole) => Err(Trouble::Passing(anyhow!("it ended after {now} bytes of {whole}"))),
        None => Ok(()),
    }
}

/// What a response is good for.
enum Begin {
    /// Its body begins here.
    At(u64),
    /// There is nothing more to come.
    Complete,
    /// What is there does not fit to it.
    Anew(anyhow::Error),
}

fn begin(response: &Response<Body>, have: u64) -> Result<Begin, Trouble> {
    let status = response.status();
    let range =
        response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match status {
        // The whole file: the server does not know ranges, or was not asked for one.
        StatusCode::OK => Ok(Begin::At(0)),
        StatusCode::PARTIAL_CONTENT if range.starts_with(&format!("bytes {have}-")) => Ok(Begin::At(have)),
        StatusCode::PARTIAL_CONTENT => {
            Ok(Begin::Anew(anyhow!("the server sent {range:?}, expected bytes from {have} on")))
        }
        StatusCode::RANGE_NOT_SATISFIABLE if range == format!("bytes */{have}") => Ok(Begin::Complete),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Ok(Begin::Anew(anyhow!("the server has fewer bytes than the {have} there are")))
        }
        _ => {
            let error = anyhow!("the server answered {status}, expected 200 OK");
            let passing = status.is_server_error()
                || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
            Err(if passing { Trouble::Passing(error) } else { Trouble::Lasting(error) })
        }
    }
}

fn trouble(error: ureq::Error) -> Trouble {
    use ureq::Error;
    let lasting = matches!(
        error,
        Error::BadUri(_)
            | Error::Http(_)
            | Error::RedirectFailed
            | Error::TooManyRedirects
            | Error::InvalidProxyUrl
            | Error::RequireHttpsOnly(_)
    );
    if lasting { Trouble::Lasting(error.into()) } else { Trouble::Passing(error.into()) }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn length(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// Takes everything out of a file.
pub fn empty(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

/// Everything from a reader into a writer; `advance` is told of every few bytes. What came before an error is written.
pub fn pour(from: &mut impl Read, into: &mut impl Write, advance: impl Fn(usize)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                into.write_all(&chunk[..read])?;
                advance(read);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
