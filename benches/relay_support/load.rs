use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{HOST, PATH, Target};

type Client = SendRequest<Empty<Bytes>>;

/// Opens connections through the target, and makes one call on each so that all is warm.
pub(crate) async fn connect(target: &Target, connections: usize) -> Vec<Client> {
    let tls = TlsConnector::from(super::trusting(&target.ca));
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = client(target, &tls).await;
        call(&mut client).await;
        clients.push(client);
    }
    clients
}

/// Calls in a closed loop on every connection; answers how many calls there were.
pub(crate) async fn run(clients: Vec<Client>, length: Duration) -> u64 {
    let until = Instant::now() + length;
    let loops = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let mut calls = 0;
            while Instant::now() < until {
                call(&mut client).await;
                calls += 1;
            }
            calls
        })
    });
    let mut total = 0;
    for each in loops.collect::<Vec<_>>() {
        total += each.await.unwrap();
    }
    total
}

async fn call(client: &mut Client) {
    client.ready().await.unwrap();
    let request = Request::get(PATH).header("host", HOST).header("accept", "*/*").body(Empty::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap();
}

async fn client(target: &Target, tls: &TlsConnector) -> Client {
    let tcp = TcpStream::connect(target.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (mut outer, connection) = handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut connect = Request::connect(format!("{HOST}:443")).header("host", format!("{HOST}:443"));
    if let Some(authorization) = &target.authorization {
        connect = connect.header("proxy-authorization", authorization);
    }
    let answer = outer.send_request(connect.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let tls = tls.connect(ServerName::try_from(HOST).unwrap(), tunnel).await.unwrap();
    let (client, connection) = handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    client
}
