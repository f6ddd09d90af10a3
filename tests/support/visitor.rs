//! One who visits the pages of a front, without JavaScript.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::world::{Daemon, World};

/// The front of a daemon, as one visitor sees it.
pub struct Visitor {
    /// It is a process that says what it does, as a daemon is.
    pub front: Daemon,
    pub port: u16,
    pub cookie: String,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The value of the field `name` of the first form that has one.
    pub fn field(&self, name: &str) -> &str {
        let begin = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.body.split_once(&begin).unwrap();
        rest.split('"').next().unwrap()
    }
}

impl Visitor {
    /// One who has not signed in; `page` is that field of web.ron.
    pub fn of(world: &World, page: &str) -> Self {
        world.secret("password", "s3cret\n");
        world.write(
            "web.ron",
            &format!("(listen: [Http(addr: \"127.0.0.1:0\")], daemon: \"./s.sock\", page: {page})"),
        );
        let (front, port) = Daemon::front(world);
        Self {
            front,
            port,
            cookie: String::new(),
        }
    }

    pub fn signed_in(world: &World) -> Self {
        let mut visitor = Self::of(world, "(users: {\"admin\": \"password\"})");
        visitor.sign_in();
        visitor
    }

    pub fn sign_in(&mut self) {
        self.cookie.clear();
        let reply = self.post("/sign-in", "user=admin&password=s3cret&to=%2F");
        assert_eq!((reply.status, reply.header("location")), (303, "/"), "{reply:?}");
        let cookie = reply.header("set-cookie");
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    /// Send a request, and leave its answer to the caller.
    pub fn begin(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let (port, cookie, length) = (self.port, &self.cookie, body.len());
        let host = if headers.contains("Host: ") {
            String::new()
        } else {
            format!("Host: 127.0.0.1:{port}\r\n")
        };
        let form = "Content-Type: application/x-www-form-urlencoded";
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{host}Cookie: other=1; {cookie}\r\nConnection: close\r\n\
             {form}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        stream
    }

    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let mut answer = String::new();
        self.begin(method, path, headers, body)
            .read_to_string(&mut answer)
            .unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, "", body)
    }

    /// Press the first button of the page at `from` that leads to `path`.
    pub fn press(&self, from: &str, path: &str) -> String {
        let page = self.get(from);
        assert!(page.body.contains(&format!("action=\"{path}\"")), "{page:?}");
        let reply = self.post(path, &format!("form={}", page.field("form")));
        assert_eq!(reply.status, 303, "{reply:?}");
        reply.header("location").to_owned()
    }
}
