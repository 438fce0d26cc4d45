//! A small web server for a folder of static files: the page, on this machine.
//!
//! It answers `GET` and `HEAD` for what is inside its folder and nothing else, a thread a connection. To publish a page, any
//! server of static files does.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use thiserror::Error;

/// The most that a request's head may have: a browser's needs a tenth of it.
const LONGEST_HEAD: u64 = 32 * 1024;
/// A connection that says nothing for so long is closed.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is answered for a folder.
const INDEX: &str = "index.html";

/// Why a folder can't be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is no page.
    #[error("{} holds no {INDEX}: `cargo xtask web` builds the page in target/web; or name its folder", .folder.display())]
    NoPage {
        /// The folder.
        folder: PathBuf,
    },
    /// The address can't be had.
    #[error("cannot listen on {address}: {source}; choose another --port (0 takes a free one)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A folder behind an address, not yet answering.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the address (port 0: a free one) for a folder with a page in it.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// std::fs::write(folder.path().join("index.html"), "hello").unwrap();
    /// let server = eblora::serve::Server::bind(folder.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    /// let mut client = std::net::TcpStream::connect(server.address()).unwrap();
    /// std::thread::spawn(move || server.run());
    /// client.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer).unwrap();
    /// assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"));
    /// ```
    ///
    /// # Errors
    /// When there is no page, or the address is taken or not ours.
    pub fn bind(folder: &Path, address: SocketAddr) -> Result<Self, ServeError> {
        let no_page = || ServeError::NoPage { folder: folder.to_owned() };
        let canonical = fs::canonicalize(folder).map_err(|_| no_page())?;
        if !canonical.join(INDEX).is_file() {
            return Err(no_page());
        }
        let listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { folder: canonical, listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the process ends. A connection that fails concerns nobody else.
    pub fn run(&self) {
        for stream in self.listener.incoming().flatten() {
            let folder = self.folder.clone();
            // Without a thread to be had the connection is closed, and the browser asks again.
            let _ = thread::Builder::new().spawn(move || converse(&folder, &stream));
        }
    }
}

/// Answers the requests of one connection, one after the other.
fn converse(folder: &Path, stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        answer(folder, &request, &mut &*stream)?;
        if request.close {
            return Ok(());
        }
    }
}

/// What is asked for.
#[derive(Debug, Default, PartialEq)]
struct Request {
    method: String,
    target: String,
    close: bool,
}

impl Request {
    /// The next request of a connection; `None`: there is none, or nothing that can be made out.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = reader.take(LONGEST_HEAD);
        let mut line = Vec::new();
        let mut request: Option<Self> = None;
        loop {
            line.clear();
            head.read_until(b'\n', &mut line)?;
            let Some(text) = line.strip_suffix(b"\n") else { return Ok(None) };
            let text = String::from_utf8_lossy(text);
            let text = text.trim_end();
            match &mut request {
                None => {
                    let mut words = text.split(' ');
                    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
                        return Ok(None);
                    };
                    request = Some(Self {
                        method: method.to_owned(),
                        target: target.to_owned(),
                        close: version != "HTTP/1.1",
                    });
                }
                Some(request) if text.is_empty() => return Ok(Some(std::mem::take(request))),
                Some(request) => {
                    let (name, value) = text.split_once(':').unwrap_or((text, ""));
                    match name.to_ascii_lowercase().as_str() {
                        "connection" => request.close |= value.trim().eq_ignore_ascii_case("close"),
                        // A body is not expected, so where the next request begins is not known.
                        "content-length" | "transfer-encoding" => request.close = true,
                        _ => {}
                    }
                }
            }
        }
    }
}

fn answer(folder: &Path, request: &Request, out: &mut impl Write) -> io::Result<()> {
    let body = match request.method.as_str() {
        "GET" => true,
        "HEAD" => false,
        _ => return refuse(out, "405 Method Not Allowed", "only GET and HEAD are answered"),
    };
    let path = request.target.split(['?', '#']).next().unwrap_or_default();
    let Some(found) = inside(folder, path) else { return missing(out) };
    if found.is_dir() && !path.ends_with('/') {
        // Relative links of the page would lead elsewhere.
        let name = path.rsplit('/').next().unwrap_or_default();
        return write!(
            out,
            "HTTP/1.1 301 Moved Permanently\r\nLocation: {name}/\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        );
    }
    let file = if found.is_dir() { found.join(INDEX) } else { found };
    let opened = File::open(&file).and_then(|opened| Ok((opened.metadata()?, opened)));
    let Some((metadata, mut opened)) = opened.ok().filter(|(metadata, _)| metadata.is_file()) else {
        return missing(out);
    };
    let length = metadata.len();
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {length}\r\nCache-Control: no-cache\r\n\
         X-Content-Type-Options: nosniff\r\n\r\n",
        kind(&file)
    )?;
    if body {
        io::copy(&mut (&mut opened).take(length), out)?;
    }
    out.flush()
}

fn missing(out: &mut impl Write) -> io::Result<()> {
    refuse(out, "404 Not Found", "there is no such file")
}

fn refuse(out: &mut impl Write, status: &str, text: &str) -> io::Result<()> {
    let length = text.len() + 1;
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{text}\n"
    )
}

/// The file or folder that a URL's path names, if it lies inside `folder`, wherever links lead.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let decoded = decode(path.strip_prefix('/')?)?;
    let relative = Path::new(&decoded);
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return None;
    }
    let found = fs::canonicalize(folder.join(relative)).ok()?;
    found.starts_with(folder).then_some(found)
}

/// A path without its %XX; `None` where they are no text.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The content type by the file's ending. Archives are sent as they are: the page unpacks them.
fn kind(file: &Path) -> &'static str {
    match file.extension().and_then(|ending| ending.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm", // else it can't be compiled while it arrives
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "txt" | "md" | "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("index.html", "home"), ("a b.js", "script"), ("sub/index.html", "below")] {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        fs::write(folder.path().join("m.wasm"), b"\0asm").unwrap();
        folder
    }

    fn ask(folder: &Path, method: &str, target: &str) -> String {
        let request = Request { method: method.to_owned(), target: target.to_owned(), close: true };
        let mut out = Vec::new();
        answer(&fs::canonicalize(folder).unwrap(), &request, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn files_and_folders_are_answered_with_their_types() {
        let page = page();
        for (target, kind, body) in [
            ("/", "text/html", "home"),
            ("/index.html?x=1", "text/html", "home"),
            ("/a%20b.js", "text/javascript", "script"),
            ("/sub/", "text/html", "below"),
            ("/m.wasm", "application/wasm", "\0asm"),
        ] {
            let answer = ask(page.path(), "GET", target);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(kind), "{target}: {answer}");
            assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())), "{target}: {answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{target}: {answer}");
        }
        assert!(ask(page.path(), "HEAD", "/").ends_with("\r\n\r\n"));
        assert!(ask(page.path(), "GET", "/sub").contains("301 Moved Permanently\r\nLocation: sub/\r\n"));
    }

    #[test]
    fn nothing_outside_the_folder_is_answered() {
        let page = page();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path().join("secret"), page.path().join("link")).unwrap();
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        let ways = [
            "/../{}/secret",
            "/%2e%2e/{}/secret",
            "/sub/../../{}/secret",
            "//{}/secret",
            "/link",
            "/none",
            "x",
            "/%",
            "/%zz",
            "/%00",
        ];
        for way in ways.map(|way| way.replace("{}", name)) {
            assert!(ask(page.path(), "GET", &way).starts_with("HTTP/1.1 404"), "{way}");
        }
        assert!(ask(page.path(), "POST", "/").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn requests_are_read_one_after_the_other_and_nonsense_ends_the_connection() {
        let mut two = &b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /b HTTP/1.1\r\nconnection: Close\r\n\r\n"[..];
        let first = Request::read(&mut two).unwrap().unwrap();
        assert_eq!((first.target.as_str(), first.close), ("/a", false));
        let second = Request::read(&mut two).unwrap().unwrap();
        assert_eq!((second.method.as_str(), second.target.as_str(), second.close), ("HEAD", "/b", true));
        assert_eq!(Request::read(&mut two).unwrap(), None);
        for nonsense in [&b"GET\r\n\r\n"[..], b"GET /a HTTP/1.1\r\nno end", b"\xff\xfe\r\n\r\n"] {
            assert_eq!(Request::read(&mut &*nonsense).unwrap(), None);
        }
        let endless = vec![b'a'; 2 * LONGEST_HEAD as usize];
        assert_eq!(Request::read(&mut endless.as_slice()).unwrap(), None);
        let body = Request::read(&mut &b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"[..]).unwrap().unwrap();
        assert!(body.close);
    }

    #[test]
    fn a_folder_without_a_page_and_a_taken_address_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        assert!(Server::bind(empty.path(), any).unwrap_err().to_string().contains("cargo xtask web"));
        let page = page();
        let server = Server::bind(page.path(), any).unwrap();
        let message = Server::bind(page.path(), server.address()).unwrap_err().to_string();
        assert!(message.contains("cannot listen on 127.0.0.1") && message.contains("--port"), "{message}");
    }
}
