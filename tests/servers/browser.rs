//! Chromium can use the pages: sign-in, deploy, lost connections; they fit screens of all sizes, with enough contrast.
//!
//! The pictures are in target/tmp/pages, to be looked at.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::{Value, json};

use super::{
    foreign::{Server, find},
    world::{Daemon, World},
};

/// How long a page may take for anything, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is between the browser and the front, and can be cut.
struct Wire {
    port: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(front: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            is_cut: Arc::default(),
            open: Arc::default(),
        };
        let (is_cut, open) = (wire.is_cut.clone(), wire.open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(near) = stream else { return };
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", front)) else {
                    return;
                };
                open.lock()
                    .unwrap()
                    .extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                carry(near.try_clone().unwrap(), far.try_clone().unwrap());
                carry(far, near);
            }
        });
        wire
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
}

/// A browser, spoken to by WebDriver: <https://www.w3.org/TR/webdriver2/>.
struct Browser {
    port: u16,
    session: String,
    _driver: Server,
}

impl Browser {
    /// Nothing if there is none here.
    fn start(world: &World) -> Option<Self> {
        let (chromium, driver) = (find("chromium")?, find("chromedriver")?);
        // It says its port on standard output.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec \"$0\" --port=0 >&2"])
            .arg(driver)
            .stdin(Stdio::null());
        let (server, line) = Server::start(&mut command, "started successfully on port").unwrap();
        let port = line.trim_end().trim_end_matches('.').rsplit(' ').next().unwrap();
        let mut browser = Self {
            port: port.parse().unwrap(),
            session: String::new(),
            _driver: server,
        };
        let profile = format!("--user-data-dir={}", world.path("chromium").display());
        let options = json!({
            "binary": chromium,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", profile],
        });
        let capabilities =
            json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let session = browser.call(
            "POST",
            "",
            &json!({ "capabilities": { "alwaysMatch": capabilities } }),
        );
        browser.session = format!("/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (session, port) = (&self.session, self.port);
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} /session{session}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        // It leaves the connection open.
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        value
    }

    fn go(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url }));
    }

    /// What the script, a function's body, gives.
    fn js(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.call(
            "POST",
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        )
    }

    /// Look again until `condition`, an expression, holds.
    fn wait_until(&self, condition: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.js(&format!("return Boolean({condition})")) != json!(true) {
            if Instant::now() > deadline {
                let page = self.js("return location.href + ': ' + document.body.innerText");
                panic!("not within a minute: {condition}\n{page}");
            }
            std::thread::park_timeout(Duration::from_millis(30));
        }
    }

    /// Type into whatever has the focus.
    fn type_keys(&self, text: &str) {
        let keys: Vec<Value> = text
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|what| json!({ "type": what, "value": key.to_string() }))
            })
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] });
        self.call("POST", "/actions", &actions);
    }

    fn look(&self, width: u32, scheme: &str) {
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &scheme);
        let size = json!({ "width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// At each width and by day and night the page fits and can be read; pictures are kept under `name`.
    fn inspect(&self, name: &str) {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
        fs::create_dir_all(&dir).unwrap();
        for (width, scheme) in [
            (320, "light"),
            (360, "dark"),
            (360, "light"),
            (1280, "dark"),
            (1280, "light"),
            (3840, "light"),
        ] {
            self.look(width, scheme);
            let over = self.js("return document.documentElement.scrollWidth - innerWidth");
            assert_eq!(over, 0, "{name} is wider than {width} px");
            let faint = self.js(CONTRAST);
            assert_eq!(faint, json!([]), "{name}, {scheme}, {width} px: less than 4.5:1");
            let nameless = self.js(NAMELESS);
            assert_eq!(
                nameless,
                json!([]),
                "{name}: a screen reader has no name for these"
            );
            let picture = self.call("GET", "/screenshot", &Value::Null);
            let picture = base64::engine::general_purpose::STANDARD
                .decode(picture.as_str().unwrap())
                .unwrap();
            fs::write(dir.join(format!("{name}-{width}-{scheme}.png")), picture).unwrap();
        }
        self.look(1280, "light");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes are not in the driver's group.
        if !std::thread::panicking() {
            self.call("DELETE", "", &Value::Null);
        }
    }
}

/// Texts that have less contrast than WCAG's AA asks for, 4.5:1.
const CONTRAST: &str = r#"
    const parse = (color) => color.match(/[\d.]+/g).map(Number);
    const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.body.querySelectorAll("*")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(element.outerHTML.slice(0, 200));
    }
    return faint;
"#;

/// What can be used, and has no name.
const NAMELESS: &str = r##"
    return [...document.querySelectorAll("a, button, input:not([type=hidden]), [role=img], ol[tabindex], progress")]
        .filter((one) => !one.hidden && !one.textContent.trim() && !one.getAttribute("aria-label")
            && !document.getElementById(one.getAttribute("aria-labelledby") ?? "") && !one.labels?.length)
        .map((one) => one.outerHTML.slice(0, 200));
"##;

/// What is on a page whose run is followed.
const LINES: &str = "[...document.querySelectorAll('#log li.ln')].map((line) => line.textContent)";

/// A front with the user admin, and its port.
fn front(world: &World) -> (Daemon, u16) {
    world.secret("password", "correct horse\n");
    world.write(
        "web.ron",
        "(listen: [Http(addr: \"127.0.0.1:0\")], daemon: \"./s.sock\", page: (users: {\"admin\": \"password\"}))",
    );
    Daemon::front(world)
}

const HOOK: &str = "exec 3<>../go; echo one; read a <&3; echo two; read a <&3; i=0; \
                    while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; \
                    read a <&3; echo and one more; read a <&3; test ! -e ../bad";

#[test]
fn a_browser_watches_a_deploy() {
    let world = World::sourced();
    let Some(browser) = Browser::start(&world) else {
        return;
    };
    world.config(&format!("hooks: [Exec(run: [\"/bin/sh\", \"-c\", {HOOK:?}])]"));
    world.fifo("go");
    let go = || {
        let mut fifo = fs::OpenOptions::new().write(true).open(world.path("go")).unwrap();
        fifo.write_all(b"\n").unwrap();
    };
    // What is paused stays so, for which the daemon needs a place.
    let state = [("STATE_DIRECTORY", world.path("state"))];
    fs::create_dir(world.path("state")).unwrap();
    let _daemon = Daemon::start_with(&world, &[], &state);
    let (_front, port) = front(&world);
    let wire = Wire::to(port);
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", wire.port);

    // By keyboard alone: the field has the focus already.
    browser.go(&at("/triggers/site"));
    browser.inspect("sign-in");
    browser.type_keys("admin\u{e004}correct horse\u{e007}");
    browser.wait_until("location.pathname === '/triggers/site'");
    browser.wait_until("document.querySelector('h1')?.textContent === 'site'");
    browser.js("document.querySelector('form[action$=\"/deploy\"] button').focus()");
    browser.type_keys("\u{e007}");
    browser.wait_until("location.pathname.startsWith('/triggers/site/runs/')");
    browser.wait_until(&format!("{LINES}.join() === 'one'"));
    browser.inspect("running");

    // The connection is lost, and what was said meanwhile comes when it is back, once.
    wire.cut();
    browser.wait_until("document.getElementById('state').textContent.includes('connection is lost')");
    go();
    wire.mend();
    browser.wait_until(&format!("{LINES}.join() === 'one,two'"));
    // It follows, unless somebody reads further up.
    let top = "document.getElementById('log').scrollTop";
    let is_at_end =
        "(log => log.scrollHeight - log.scrollTop - log.clientHeight < 24)(document.getElementById('log'))";
    go();
    browser.wait_until(&format!("{LINES}.length === 302 && {is_at_end} && {top} > 100"));
    browser.js(&format!("{top} = 10"));
    browser.wait_until("!document.getElementById('follow').hidden");
    go();
    browser.wait_until(&format!("{LINES}.length === 303"));
    assert_eq!(browser.js(&format!("return {top}")), 10);
    browser.js("document.getElementById('follow').click()");
    browser.wait_until(&format!(
        "{is_at_end} && document.getElementById('follow').hidden"
    ));
    // A reload loses nothing.
    browser.go(&at(browser.js("return location.pathname").as_str().unwrap()));
    browser.wait_until(&format!("{LINES}.length === 303"));
    fs::write(world.path("bad"), "").unwrap();
    go();
    browser.wait_until("document.querySelector('h1 + .bad')?.textContent.includes('failed')");
    browser.inspect("failed");
    let text = browser.js("return document.body.innerText");
    let text = text.as_str().unwrap();
    assert!(
        text.contains("Next: see what it printed") && text.contains("and one more"),
        "{text}"
    );

    // Times are the reader's, and a tab shows that something fails.
    browser.go(&at("/"));
    browser.wait_until("document.title.startsWith('1 failing')");
    browser.wait_until("/just now|ago/.test(document.querySelector('time').textContent)");
    browser.wait_until("document.querySelector('link[rel=icon]').href.includes('/assets/failing-')");
    browser.inspect("overview");
    browser.js("document.querySelector('h3 a').click()");
    browser.wait_until("document.title.startsWith('site: failing')");
    browser.inspect("trigger");

    // It is paused, with a reason, and resumed, by keyboard alone.
    browser.js("document.querySelector('details summary').focus()");
    browser.type_keys("\u{e007}\u{e004}too many failures");
    browser.inspect("pausing");
    browser.type_keys("\u{e007}");
    browser.wait_until("document.querySelector('.card h2')?.textContent.startsWith('Paused')");
    browser.wait_until("document.body.innerText.includes('“too many failures, by admin”')");
    browser.wait_until("!document.querySelector('form[action$=\"/deploy\"]')");
    browser.inspect("paused");
    browser.js("document.querySelector('form[action$=\"/resume\"] button').focus()");
    browser.type_keys("\u{e007}");
    browser.wait_until("document.querySelector('form[action$=\"/deploy\"]')");
    let log = browser.call("POST", "/se/log", &json!({ "type": "browser" }));
    let faults = log.as_array().unwrap().iter().filter(|entry| {
        let message = entry["message"].as_str().unwrap();
        // What was cut, and a page that was left, are no faults of the page.
        entry["level"] == "SEVERE" && !message.contains("net::ERR_")
    });
    assert_eq!(faults.count(), 0, "{log}");
}
