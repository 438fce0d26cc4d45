//! `eblora serve`: the page, on this machine.

use std::net::SocketAddr;

use super::args::ServeArgs;
use super::print;
use crate::Error;
use crate::serve::Server;

/// Serves the page until Ctrl-C.
pub fn run(args: &ServeArgs) -> Result<(), Error> {
    let server = Server::bind(&args.folder, SocketAddr::new(args.host, args.port))?;
    let address = server.address();
    if !address.ip().is_loopback() {
        print(
            "note: browsers offer WebGPU only to https and to localhost; others than this machine will train on their CPU\n",
        );
    }
    print(&format!("http://{address}/ shows {}; Ctrl-C ends it\n", args.folder.display()));
    server.run();
    Ok(())
}
