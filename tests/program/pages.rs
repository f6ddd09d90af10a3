//! The pages of the front work without JavaScript: sign-in, buttons, escaping.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::{
    source::file,
    visitor::{Reply, Visitor},
    world::{Daemon, World, last_line},
};

fn world() -> (World, Daemon) {
    let world = World::sourced();
    world.config("hooks: [Exec(run: [\"/bin/echo\", \"it is live\"])]");
    let daemon = world.daemon();
    (world, daemon)
}

fn runs(daemon: &Daemon) -> usize {
    daemon
        .say("log site\n")
        .lines()
        .filter(|line| !line.starts_with("ok "))
        .count()
}

#[test]
fn a_visitor_signs_in_and_deploys() {
    let (world, daemon) = world();
    let mut visitor = Visitor::of(&world, "(users: {\"admin\": \"password\"})");
    let reply = visitor.get("/triggers/site");
    let there = "/sign-in?to=%2Ftriggers%2Fsite";
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, there),
        "{reply:?}"
    );
    assert_eq!(visitor.get(there).field("to"), "/triggers/site");
    // Never to another host, whatever a link says.
    for to in [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "/triggers/site/deploy",
        "/x",
    ] {
        let to: String = to.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(visitor.get(&format!("/sign-in?to={to}")).field("to"), "/", "{to}");
    }
    assert_eq!(
        visitor.post("/triggers/site/deploy", "").header("location"),
        there
    );
    assert_eq!(visitor.get("/triggers/site/runs/0a/events").status, 401);
    for wrong in [
        "user=admin&password=S3cret",
        "user=root&password=s3cret",
        "user=admin",
        "",
    ] {
        let reply = visitor.post("/sign-in", wrong);
        assert_eq!((reply.status, reply.header("set-cookie")), (401, ""), "{reply:?}");
        assert!(reply.body.contains("The name or the password is wrong."));
    }
    let right = "user=admin&password=s3cret&to=%2Ftriggers%2Fsite";
    let foreign = visitor.send("POST", "/sign-in", "Origin: http://evil.example\r\n", right);
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, ""));
    let reply = visitor.post("/sign-in", right);
    assert_eq!((reply.status, reply.header("location")), (303, "/triggers/site"));
    let cookie = reply.header("set-cookie");
    assert!(
        cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("; Path=/")
    );
    visitor.cookie = cookie.split(';').next().unwrap().to_owned();

    let page = visitor.get("/");
    assert!(
        page.body.contains("nothing deployed yet") && page.body.contains("signed in as"),
        "{page:?}"
    );
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    // Nothing from another host, nothing inline.
    for word in ["http:", "https:", "//", "style=", "onclick", "<style"] {
        assert!(!page.body.contains(word), "{word}: {}", page.body);
    }
    let run = visitor.press("/triggers/site", "/triggers/site/deploy");
    daemon.say("attach site\n");
    let id = run.strip_prefix("/triggers/site/runs/").unwrap();
    assert!(last_line(&daemon.say(format!("log site {id}\n"))).starts_with("ok site "));
    let page = visitor.get(&run);
    assert!(
        page.status == 200 && page.body.contains("it is live") && page.body.contains("ok site "),
        "{page:?}"
    );
    // Its time by phase.
    assert!(page.body.contains("fetch "), "{page:?}");
    assert!(visitor.get("/triggers/site").body.contains(&run));
    assert_eq!(visitor.get("/triggers/site/runs/0a").status, 404);
    assert_eq!(visitor.get("/triggers/other").status, 404);
    visitor.front.wait_for("triggered by admin from 127.0.0.1");
}

/// What a page of another site, or of another's sign-in, can make a browser send.
#[test]
fn a_form_that_was_not_made_here_does_nothing() {
    let (world, daemon) = world();
    let mut visitor = Visitor::signed_in(&world);
    let other = visitor.get("/triggers/site").field("form").to_owned();
    visitor.sign_in();
    let token = visitor.get("/triggers/site").field("form").to_owned();
    assert_ne!(other, token);
    let good = format!("form={token}");
    let ours = format!("Origin: http://127.0.0.1:{}\r\n", visitor.port);
    let twice = format!("{ours}Origin: http://evil.example\r\n");
    for (headers, body) in [
        ("", String::new()),
        ("", "form=".into()),
        ("", format!("form={other}")),
        ("Origin: http://evil.example\r\n", good.clone()),
        ("Origin: null\r\n", good.clone()),
        (twice.as_str(), good.clone()),
        ("Sec-Fetch-Site: cross-site\r\n", good.clone()),
        ("Sec-Fetch-Site: same-site\r\n", good.clone()),
    ] {
        let reply = visitor.send("POST", "/triggers/site/deploy", headers, &body);
        assert_eq!(reply.status, 403, "{headers} {body}: {reply:?}");
        assert_eq!(visitor.send("POST", "/sign-out", headers, &body).status, 403);
    }
    assert_eq!(
        visitor.post("/triggers/site/deploy", &"x".repeat(9000)).status,
        413
    );
    let reply = visitor.get("/triggers/site/deploy");
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    assert_eq!(runs(&daemon), 0);
    // A release that is none is a mistake, and the daemon is not asked.
    let reply = visitor.post("/triggers/site/rollback", &format!("{good}&to=..%2Fx"));
    assert_eq!(reply.status, 400, "{reply:?}");
    let reply = visitor.post("/sign-out", &good);
    assert!(
        reply.status == 303 && reply.header("set-cookie").contains("Max-Age=0"),
        "{reply:?}"
    );
    assert_eq!(visitor.get("/").status, 303);
    // A password that was changed ends what began with it.
    visitor.sign_in();
    assert_eq!(visitor.get("/").status, 200);
    // A cookie that another page has planted before it does not.
    let planted = format!("gitsocket={}; {}", "a".repeat(64), visitor.cookie);
    let visitor = Visitor {
        cookie: planted,
        ..visitor
    };
    assert_eq!(visitor.get("/").status, 200);
    world.secret("password", "another\n");
    assert_eq!(visitor.get("/").status, 303);
}

/// Without users, pages of other sites must not be able to read it by a name of their own.
#[test]
fn without_users_it_answers_to_its_own_names_only() {
    let (world, daemon) = world();
    let visitor = Visitor::of(&world, "()");
    for (host, status) in [
        ("localhost", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        let reply = visitor.send("GET", "/triggers/site", &format!("Host: {host}\r\n"), "");
        assert_eq!(reply.status, status, "{host}: {reply:?}");
    }
    // Nor to what a proxy passes on, whatever Host that says: the world may be behind it.
    for header in [
        "X-Forwarded-For: 192.0.2.1",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 proxy",
    ] {
        let reply = visitor.send("GET", "/triggers/site", &format!("{header}\r\n"), "");
        assert!(
            reply.status == 403 && reply.body.contains("Next:"),
            "{header}: {reply:?}"
        );
    }
    assert_eq!(visitor.post("/triggers/site/deploy", "").status, 403);
    visitor.press("/triggers/site", "/triggers/site/deploy");
    daemon.say("attach site\n");
    assert_eq!(runs(&daemon), 1);
    drop(daemon);
    let reply = visitor.get("/");
    assert_eq!(reply.status, 503);
    assert!(
        reply.body.contains("The daemon does not answer") && reply.body.contains("Next:"),
        "{reply:?}"
    );
}

#[test]
fn attempts_are_bounded() {
    let (world, _daemon) = world();
    let visitor = Visitor::signed_in(&world);
    let guess = || visitor.post("/sign-in", "user=admin&password=x");
    // The session's own requests lead on; a stranger's are tried.
    let stranger = Visitor {
        cookie: String::new(),
        ..Visitor::of(&world, "(users: {\"admin\": \"password\"})")
    };
    let tries: Vec<u16> = (0..12)
        .map(|_| stranger.post("/sign-in", "user=admin&password=x").status)
        .collect();
    assert_eq!(tries, [&[401; 10][..], &[429; 2]].concat());
    let reply = stranger.post("/sign-in", "user=admin&password=s3cret");
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!(reply.status == 429 && (1..=11).contains(&wait), "{reply:?}");
    assert_eq!(guess().status, 303);
    assert_eq!(visitor.get("/").status, 200);
    // A browser that has signed in before is not kept out by what strangers tried from its address: behind a proxy, all of
    // them.
    let mut visitor = visitor;
    visitor.cookie.clear();
    let reply = visitor.post("/sign-in", "user=admin&password=s3cret");
    let known = reply.head.lines().find(|line| line.contains("gitsocket-known="));
    let (_, known) = known.unwrap().split_once(": ").unwrap();
    assert!(known.contains("; HttpOnly; SameSite=Strict;"), "{known}");
    while visitor.post("/sign-in", "user=admin&password=x").status != 429 {}
    visitor.cookie = known.split(';').next().unwrap().to_owned();
    let reply = visitor.post("/sign-in", "user=admin&password=x");
    assert_eq!(reply.status, 401, "{reply:?}");
    let reply = visitor.post("/sign-in", "user=admin&password=s3cret");
    assert_eq!(reply.status, 303, "{reply:?}");
}

/// Whatever a repository or a hook can name is text on the page.
#[test]
fn what_others_name_is_text() {
    const EVIL: &str = "<script>alert(1)</script>";
    let (world, mut source) = World::with_source();
    let name = "<img src=x onerror=alert(2)>";
    source.commit([(name, file("1"))]);
    let branch = "a&lt;'b";
    let id = source.commit_on(branch, [(name, file("1"))]);
    // A subject that breaks out of what is around it.
    let repo = gix::open(world.path("repo.git")).unwrap();
    let mut commit: gix::objs::Commit = repo
        .find_commit(id)
        .unwrap()
        .decode()
        .unwrap()
        .try_into()
        .unwrap();
    commit.message = format!("{EVIL} \"'&amp; \u{1b}[31mred\u{202e}").into();
    let evil = repo.write_object(&commit).unwrap().detach();
    source.point(&format!("refs/heads/{branch}"), evil);
    world.script(
        "hook",
        &format!(
            "printf '{EVIL}\\033[31m\\342\\200\\256\\007</li>&lt;\\n'; printf '{EVIL}\\r\\n' >&2; exit 3"
        ),
    );
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", branch: {branch:?}, path: \"site\", hooks: [Exec(run: [\"hook\"], dir: \".\")]),"
    ).replace("[\"hook\"], dir: \".\"", &format!("[{:?}]", world.path("hook"))));
    let daemon = world.daemon();
    let said = daemon.say("site\n");
    assert!(last_line(&said).starts_with("error site hook: "), "{said}");
    fs::write(world.path("site").join(name), "edited").unwrap();
    source.point(&format!("refs/heads/{branch}"), id);
    let said = daemon.say("site\n");
    assert!(
        said.contains("rewound") && said.contains(EVIL) && said.contains(name),
        "{said}"
    );
    let visitor = Visitor::signed_in(&world);
    let run = daemon.say("log site\n").split(' ').next().unwrap().to_owned();
    let pages = [
        "/".into(),
        "/triggers/site".into(),
        format!("/triggers/site/runs/{run}"),
    ];
    for path in &pages {
        let page = visitor.get(path);
        assert_eq!(page.status, 200, "{page:?}");
        let text = page.body.to_lowercase();
        for word in ["<script>alert", "<img", "</script>a"] {
            assert!(!text.contains(word), "{path}: {word}: {text}");
        }
        let bad = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!page.body.contains(bad), "{path}: {text}");
    }
    let page = visitor.get(&pages[2]).body;
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    assert!(page.contains("&lt;img src=x onerror=alert(2)&gt;"), "{page}");
    // An apostrophe does nothing between double quotes.
    assert!(visitor.get("/").body.contains("a&amp;lt;'b"));
    // Nor does what is asked for come back as anything else.
    let page = visitor.get("/?find=%22%3E%3Cscript%3E&page=%3Cb%3E").body;
    assert!(!page.contains("\"><script>"), "{page}");
}

/// The page alone says why a delivery was refused, and neither it nor its sender can put anything else on it.
#[test]
fn a_refused_delivery_is_explained() {
    let (world, daemon) = world();
    world.secret("hook", "It's a Secret to Everybody\n");
    let hook = "(), webhooks: {\"/hooks/site\": (trigger: \"site\", from: GitHub(secret_file: \"hook\"))}";
    let visitor = Visitor::of(&world, hook);
    let json = "Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: <script>\r\n";
    let deliver = |signature: &str| {
        let headers = format!("{json}X-Hub-Signature-256: sha256={signature}\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", visitor.port)).unwrap();
        let body = "{\"ref\":\"refs/heads/main\"}";
        write!(
            stream,
            "POST /hooks/site HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(!visitor.get("/").body.contains("Refused deliveries"));
    assert!(!visitor.get("/").body.contains(" refused:"));
    for _ in 0..3 {
        assert!(deliver(&"0".repeat(64)).starts_with("HTTP/1.1 401 "));
    }
    assert!(visitor.get("/").body.contains("1 webhook is refused:"));
    for path in ["/", "/triggers/site"] {
        let page = visitor.get(path).body;
        assert!(
            page.contains("refused with 401:") && page.contains("signature"),
            "{page}"
        );
        assert!(page.contains(", 3 times") && !page.contains("<script>"), "{page}");
    }
    drop(daemon);
}

#[test]
fn a_thousand_triggers_are_pages_of_a_hundred() {
    let world = World::sourced();
    let mut triggers: String = (0..1000)
        .map(|n| format!("\"trigger-{n:04}\": (repo: \"repo.git\", branch: \"main\", path: \"at/{n}\"),"))
        .collect();
    triggers += "\"zz-fails\": (repo: \"nowhere.git\", branch: \"main\", path: \"at/zz\"),";
    world.config_of(&triggers);
    let daemon = world.daemon();
    daemon.say("trigger-0007\n");
    daemon.say("zz-fails\n");
    let visitor = Visitor::signed_in(&world);
    let page = visitor.get("/");
    let count = |page: &Reply| page.body.matches("<li>").count() + page.body.matches("<li class").count();
    assert_eq!(count(&page), 100, "{page:?}");
    assert!(page.body.contains("1 of 1001 triggers is failing"), "{page:?}");
    // What fails is first, wherever its name is.
    assert!(page.body.find("zz-fails").unwrap() < page.body.find("trigger-0000").unwrap());
    let assets: usize = page
        .body
        .split('"')
        .filter(|word| word.starts_with("/assets/"))
        .map(|path| {
            let asset = visitor.get(path);
            assert!(
                asset.status == 200 && asset.header("cache-control").contains("immutable"),
                "{asset:?}"
            );
            asset.head.len() + asset.body.len()
        })
        .sum();
    let all = page.head.len() + page.body.len() + assets;
    assert!(all < 60_000, "{all} bytes: {} of them assets", assets);
    let last = visitor.get("/?page=11");
    assert!(
        count(&last) == 1 && last.body.contains("Page 11 of 11"),
        "{last:?}"
    );
    let found = visitor.get("/?find=-0007");
    assert!(
        count(&found) == 1 && found.body.contains("/triggers/trigger-0007\""),
        "{found:?}"
    );
}
