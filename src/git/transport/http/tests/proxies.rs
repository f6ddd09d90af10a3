//! Proxies that the environment names.

use super::*;

#[test]
fn a_proxy_passes_plain_requests_on() {
    let proxy = Server::start(git);
    let through = |no_proxy: &str| {
        Ask::through(&[
            (
                "http_proxy",
                format!("http://me:hunter2@127.0.0.1:{}", proxy.port),
            ),
            ("NO_PROXY", no_proxy.into()),
        ])
    };
    assert_eq!(
        through("").line("http://git.invalid:8080/x.git").unwrap(),
        "hello\n"
    );
    let targets: Vec<_> = proxy
        .requests()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(
        targets,
        [
            "http://git.invalid:8080/x.git/info/refs?service=git-upload-pack",
            "http://git.invalid:8080/x.git/git-upload-pack",
        ]
    );
    let expected = format!("Basic {}", base64("me:hunter2"));
    for request in proxy.requests() {
        assert_eq!(request.header("host"), Some("git.invalid:8080"));
        assert_eq!(request.header("proxy-authorization"), Some(expected.as_str()));
    }
    let direct = Server::start(git);
    through("127.0.0.0/8").line(&direct.url("/x")).unwrap();
    assert_eq!(proxy.requests().len(), 2, "not asked again");
    assert_eq!(
        direct.requests()[0].target(),
        "/x/info/refs?service=git-upload-pack"
    );
}

#[test]
fn a_proxy_that_refuses() {
    let proxy = Server::start(|_| reply("407 Proxy Authentication Required", &[], ""));
    let through = Ask::through(&[("all_proxy", format!("http://me:hunter2@127.0.0.1:{}", proxy.port))]);
    for scheme in ["http", "https"] {
        let failure = through.failure(&format!("{scheme}://git.invalid/x"));
        insta::allow_duplicates!(insta::assert_snapshot!(failure, @r"
        Proxy (remote): the proxy 127.0.0.1:PORT did not connect to git.invalid: it asks for a user and password (407)
        help: write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT, or name the host in $NO_PROXY
        "));
    }
    let proxy = Server::start(|_| reply("502 Bad Gateway", &[], ""));
    let ask = Ask::through(&[("https_proxy", format!("127.0.0.1:{}", proxy.port))]);
    let failure = ask.failure("https://git.invalid/x");
    insta::assert_snapshot!(failure, @r"
    Proxy (unreachable): the proxy 127.0.0.1:PORT did not connect to git.invalid: it answered 502
    help: correct $HTTPS_PROXY, $http_proxy or $ALL_PROXY, or name the host in $NO_PROXY
    ");
    let closed = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let ask = Ask::through(&[("all_proxy", format!("127.0.0.1:{closed}"))]);
    insta::assert_snapshot!(ask.failure("http://git.invalid/x"), @r"
    Network::Connect (unreachable): cannot connect to git.invalid (by way of the proxy 127.0.0.1:PORT) for http://git.invalid/x: Connection refused (os error 111)
    help: check the host and the port, and that no firewall is between
    ");
    insta::assert_snapshot!(ask.failure("https://git.invalid/x"), @r"
    Network::Connect (unreachable): cannot connect to git.invalid (by way of the proxy 127.0.0.1:PORT) for https://git.invalid/x: Connection refused (os error 111)
    help: check the host and the port, and that no firewall is between
    ");
    let mut all = String::new();
    for url in ["socks5://127.0.0.1:1", "http://"] {
        let ask = Ask::through(&[("all_proxy", url.into())]);
        all += &format!("{}\n\n", ask.failure("https://git.invalid/x"));
    }
    insta::assert_snapshot!(all, @r"
    ProxyUrl (config): the proxy in $all_proxy cannot be used: only http:// and https:// proxies are supported
    help: write it as http://host:port, or unset it

    ProxyUrl (config): the proxy in $all_proxy cannot be used: it is not a URL
    help: write it as http://host:port, or unset it
    ");
}
