//! What people have put together by hand, with scripts that copy what `ldd` prints: each is one command here, and does
//! its work in a container.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::engines::Docker;
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{Component, NETWORK_TOOLS, TEXT_TOOLS, WEB_SERVER, present};

/// Builds an image with the words `build` and loads it as `tag`; `None` if something for it is not on this machine.
fn built(tag: &str, needs: Component, build: &[&str]) -> Option<(Docker, Workspace)> {
    let docker = Docker::client()?;
    if !present(&[needs]) {
        return None;
    }
    let workspace = Workspace::new();
    let options = ["build", "-t", tag, "-o", "type=oci,dest=image.tar"];
    workspace.results(options.iter().chain(build));
    docker.load(&workspace.path("image.tar"));
    Some((docker, workspace))
}

/// tar starts its decompressors by name, so nothing in it names them.
#[test]
fn tar_with_its_decompressors() {
    let words = ["tar", "gzip", "bzip2", "xz", "--entrypoint", "tar"];
    let Some((docker, workspace)) = built("by-hand/tar", TEXT_TOOLS, &words) else { return };
    let data = workspace.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("poem"), "small is beautiful\n").unwrap();
    let volume = format!("{}:/data", data.display());
    for (option, archive) in [("-z", "poem.tgz"), ("-j", "poem.tbz"), ("-J", "poem.txz")] {
        let archive = format!("/data/{archive}");
        let run = ["run", "--rm", "--network", "none", "-v", &volume, "by-hand/tar"];
        let pack = ["-C", "/data", option, "-cf", &archive, "poem"];
        docker.run(&[run.as_slice(), &pack].concat()).success();
        let unpack = docker.run(&[run.as_slice(), &["-xOf", &archive]].concat());
        assert_eq!(unpack.success().stdout, "small is beautiful\n", "{archive}");
    }
}

#[test]
fn tools_for_text() {
    let words = ["jq", "xmllint", "tidy"];
    let Some((docker, workspace)) = built("by-hand/text", TEXT_TOOLS, &words) else { return };
    let data = workspace.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a.json"), r#"{"price": [1, 2, 39]}"#).unwrap();
    fs::write(data.join("a.xml"), "<list><item>x</item><item>y</item></list>").unwrap();
    fs::write(data.join("a.html"), "<title>t</title><p>para").unwrap();
    let volume = format!("{}:/data:ro", data.display());
    for (command, said) in [
        (vec!["jq", "-c", ".price | add", "/data/a.json"], "42\n"),
        (vec!["xmllint", "--xpath", "count(//item)", "/data/a.xml"], "2\n"),
        (vec!["tidy", "-q", "-e", "--show-warnings", "no", "/data/a.html"], ""),
    ] {
        let entrypoint = format!("/usr/bin/{}", command[0]);
        let run = ["run", "--rm", "--network", "none", "-v", &volume, "--entrypoint", &entrypoint];
        let outcome = docker.run(&[run.as_slice(), &["by-hand/text"], &command[1..]].concat());
        assert_eq!(outcome.success().stdout.trim_end(), said.trim_end(), "{command:?}");
    }
}

/// A web server with its content, that gives up its rights for those of a user.
#[test]
fn a_web_server_with_content() {
    let site = Workspace::new();
    fs::create_dir(site.path("site")).unwrap();
    fs::write(site.path("site/index.html"), "<p>hello from nowhere</p>\n").unwrap();
    let content = format!("{}:/srv/www", site.path("site").display());
    let words = ["mini_httpd", "--with-user", "nobody", "--add", &content];
    let Some((docker, _workspace)) = built("by-hand/web", WEB_SERVER, &words) else { return };
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let number = port.to_string();
    let run = ["run", "--detach", "--rm", "--network", "host", "by-hand/web"];
    let serve = ["-D", "-h", "127.0.0.1", "-p", &number, "-d", "/srv/www", "-u", "nobody"];
    let container = docker.run(&[run.as_slice(), &serve].concat()).success();
    let page = page(port);
    docker.run(&["kill", container.stdout.trim()]).success();
    assert!(page.starts_with("HTTP/1.1 200") || page.starts_with("HTTP/1.0 200"), "{page}");
    assert!(page.ends_with("<p>hello from nowhere</p>\n"), "{page}");
}

/// Returns what the server at `port` answers, as soon as it does.
fn page(port: u16) -> String {
    let start = Instant::now();
    loop {
        let answer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut stream| {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        match answer {
            Ok(text) => return text,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tools to look at a network with, and how each says that it works without one.
const TOOLS: [&str; 30] = [
    "arp --version",
    "arping -V",
    "bridge -V",
    "conntrack --version",
    "curl --version",
    "delv -v",
    "dig -v",
    "ethtool --version",
    "fping --version",
    "host -V",
    "ifconfig --version",
    "ip -V",
    "mtr --version",
    "nc -h",
    "ncat --version",
    "netstat --version",
    "nmap --version",
    "nslookup -version",
    "nstat -V",
    "openssl version",
    "ping -V",
    "route --version",
    "socat -V",
    "ss -V",
    "tc -V",
    "tcpdump --version",
    "telnet --version",
    "tracepath -V",
    "traceroute --version",
    "whois --version",
];

/// About thirty tools with a shell, which is bash under another name.
#[test]
fn a_box_of_network_tools() {
    let names = TOOLS.map(|tool| tool.split(' ').next().unwrap());
    let words: Vec<_> = names.into_iter().chain(["bash:/bin/sh", "--entrypoint", "/bin/sh"]).collect();
    let Some((docker, workspace)) = built("by-hand/network", NETWORK_TOOLS, &words) else { return };
    let mut differences = Vec::new();
    for tool in TOOLS {
        let inside = docker.run(&["run", "--rm", "--network", "none", "by-hand/network", "-c", tool]);
        let here = Outcome::of(&mut workspace.settle(Command::new("bash"), ["-c", tool]));
        differences.extend(difference(tool, ("here", &here.visible()), ("inside", &inside.visible())));
    }
    none_of(differences);
}
