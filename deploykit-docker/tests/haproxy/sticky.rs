//! Clients that stay with the version that they got.

use std::sync::Arc;

use deploykit_core::{ErrorKind, LoadBalancer, Place, Routing, Weight, Weights};
use deploykit_docker::{Frontend, Sticky};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::world::{TEST, World, frontend, get, is_within, on_haproxy_with, thousandths};

const CLIENTS: usize = 1_000;

/// A client, as far as the balancer can know it.
#[derive(Clone, Debug, Default)]
struct Client {
    /// What it sends with each request.
    headers: String,
    /// Who answered it last.
    by: Option<String>,
}

impl Client {
    /// A browser: it keeps the cookie that it is given.
    fn browser() -> Self {
        Self::default()
    }

    fn with_header(number: usize) -> Self {
        Self { headers: format!("x-customer: customer-{number}\r\n"), by: None }
    }

    async fn ask(mut self, url: &str) -> Self {
        let answer = get(url, &self.headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if let Some(cookie) = answer.cookies.first() {
            assert_eq!(answer.cookies.len(), 1, "{answer:?}");
            assert_eq!(self.headers, "", "a client that has a cookie gets another one");
            self.headers = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
        }
        self.by = Some(answer.body.replace("version ", ""));
        self
    }
}

/// Each client asks once, a few at a time.
async fn ask_all(world: &World, clients: Vec<Client>) -> Vec<Client> {
    let url: Arc<str> = world.observe().await.entry.unwrap().url.into();
    let few = Arc::new(Semaphore::new(16));
    let mut asked = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let (url, few) = (Arc::clone(&url), Arc::clone(&few));
        asked.spawn(async move {
            let _turn = few.acquire_owned().await.unwrap();
            (number, client.ask(&url).await)
        });
    }
    let mut clients = asked.join_all().await;
    clients.sort_by_key(|(number, _)| *number);
    clients.into_iter().map(|(_, client)| client).collect()
}

fn at(clients: &[Client], place: Place) -> u64 {
    let place = place.to_string();
    clients.iter().filter(|client| client.by.as_ref() == Some(&place)).count() as u64
}

/// Three rollouts in a row, each 1 -> 10 -> 50 -> 100 %: to another place, back to the first, which is the candidate now, and on
/// to a third.
async fn rollouts(world: &World, new: impl Fn(usize) -> Client) {
    let places = [Place::A, Place::B, Place::A, Place::C];
    for place in [Place::A, Place::B, Place::C] {
        world.serve(place, 1).await;
    }
    world.route(&Routing::all_to(Place::A)).await;
    let mut clients = ask_all(world, (0..CLIENTS).map(&new).collect()).await;
    let mut fresh = CLIENTS;
    for (stable, candidate) in places.iter().zip(&places[1..]) {
        for percent in [1, 10, 50, 100] {
            let share = Weight::percent(percent).unwrap();
            world.route(&Routing::split(*stable, *candidate, share)).await;
            let before = clients.clone();
            clients = ask_all(world, clients).await;
            let back = |(was, is): &(&Client, &Client)| {
                was.by == Some(candidate.to_string()) && is.by != was.by
            };
            let back: Vec<_> = before.iter().zip(&clients).filter(back).collect();
            assert!(back.is_empty(), "{stable} to {candidate} at {percent} %: {back:?}");

            let chance = f64::from(percent) / 100.0;
            let got = at(&clients, *candidate);
            // One fair draw of a thousand lies outside; other clients are another draw.
            if !is_within(3.291, got, CLIENTS as u64, chance) {
                let others = ask_all(world, (fresh..fresh + CLIENTS).map(&new).collect()).await;
                let again = at(&others, *candidate);
                let fair = is_within(3.291, again, CLIENTS as u64, chance);
                assert!(fair, "{candidate} at {percent} %: {got}, then {again} of {CLIENTS}");
                fresh += CLIENTS;
            }
        }
    }
}

fn sticky(sticky: Sticky) -> Frontend {
    frontend().with_sticky(sticky)
}

#[tokio::test]
async fn by_cookie_a_growing_share_only_adds_clients_over_three_rollouts_in_a_row() {
    on_haproxy_with("stickycookie", sticky(Sticky::cookie("version")), |world| async move {
        rollouts(&world, |_| Client::browser()).await;
    })
    .await;
}

#[tokio::test]
async fn by_header_a_growing_share_only_adds_clients_over_three_rollouts_in_a_row() {
    on_haproxy_with("stickyheader", sticky(Sticky::header("X-Customer")), |world| async move {
        rollouts(&world, Client::with_header).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_stays_through_a_restart_and_in_a_pool() {
    on_haproxy_with("stickyrestart", sticky(Sticky::header("x-customer")), |world| async move {
        world.serve(Place::A, 2).await;
        world.serve(Place::B, 2).await;
        for routing in [Routing::split(Place::A, Place::B, thousandths(500)), Routing::Pooled] {
            world.route(&routing).await;
            let clients = (0..100).map(Client::with_header).collect();
            let before = ask_all(&world, clients).await;
            assert!(at(&before, Place::A) > 0 && at(&before, Place::B) > 0, "{before:?}");
            world.restart().await;
            world
                .until("back", |state| state.healthy(Place::A) == 2 && state.healthy(Place::B) == 2)
                .await;
            let after = ask_all(&world, before.clone()).await;
            let by = |clients: &[Client]| -> Vec<_> {
                clients.iter().map(|client| client.by.clone()).collect()
            };
            assert_eq!(by(&after), by(&before));
        }
    })
    .await;
}

#[tokio::test]
async fn three_places_share_the_clients_and_the_growing_last_one_loses_none() {
    on_haproxy_with("stickythree", sticky(Sticky::header("x-customer")), |world| async move {
        for place in [Place::A, Place::B, Place::C] {
            world.serve(place, 1).await;
        }
        let split = |a: u16, b: u16, c: u16| {
            let shares = [(Place::A, a), (Place::B, b), (Place::C, c)];
            let shares = shares.map(|(place, share)| (place, thousandths(share)));
            Routing::Weighted(Weights::new(shares).unwrap())
        };
        world.route(&split(600, 300, 100)).await;
        let before = ask_all(&world, (0..CLIENTS).map(Client::with_header).collect()).await;
        for (place, chance) in [(Place::A, 0.6), (Place::B, 0.3), (Place::C, 0.1)] {
            // Always the same clients, so always the same result.
            let got = at(&before, place);
            assert!(is_within(3.291, got, CLIENTS as u64, chance), "{place}: {got}");
        }
        world.route(&split(500, 300, 200)).await;
        let after = ask_all(&world, before.clone()).await;
        let c = Some("C".to_owned());
        assert!(before.iter().zip(&after).all(|(was, is)| was.by != c || is.by == c));
        assert!(at(&after, Place::C) > at(&before, Place::C));
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_not_known_by_a_header_is_drawn_at_random() {
    on_haproxy_with("stickynone", sticky(Sticky::header("x-customer")), |world| async move {
        world.serve(Place::A, 1).await;
        world.serve(Place::B, 1).await;
        world.route(&Routing::split(Place::A, Place::B, thousandths(500))).await;
        world.assert_share(Place::B, 0.5, 500).await;
        let empty = Client { headers: "x-customer:\r\n".into(), by: None };
        let clients = ask_all(&world, vec![empty; 40]).await;
        // 40 alike in a row happen once in 500,000,000,000.
        assert!(at(&clients, Place::A) > 0 && at(&clients, Place::B) > 0, "{clients:?}");
    })
    .await;
}

#[tokio::test]
async fn the_cookie_is_given_once_to_live_clients_and_no_answer_of_haproxy_itself_has_it() {
    on_haproxy_with("stickygiven", sticky(Sticky::cookie("version")), |world| async move {
        assert_eq!(world.get("").await.cookies, Vec::<String>::new(), "closed");
        world.live(Place::A, 1).await;
        let cookies = world.get("").await.cookies;
        let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
        let (value, rest) = cookie.split_once("; ").unwrap();
        assert_eq!(rest, "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax");
        assert_ne!(world.get("").await.cookies, cookies, "everybody gets the same id");

        let known = format!("cookie: theme=dark; {value}\r\n");
        assert_eq!(world.get(&known).await.cookies, Vec::<String>::new());
        world.haproxy.set_test_route(&world.service, Some(Place::A)).await.unwrap();
        let tested = world.get("x-deploykit-test: web\r\n").await;
        assert_eq!((tested.status, tested.cookies), (200, Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_sticky_is_refused_naming_the_setting() {
    on_haproxy_with("stickybad", frontend(), |world| async move {
        let bad = ["", "a b", "a;b", "a\nb", "ä", "%[src]", "X-Deploykit-Test"];
        let bad = bad.into_iter().flat_map(|name| [Sticky::cookie(name), Sticky::header(name)]);
        for by in bad {
            let error = world.haproxy.add_service(&world.service, &sticky(by)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains("service web: sticky by"), "{error}");
        }
        let tcp = Frontend::tcp(TEST).with_sticky(Sticky::cookie("version"));
        let error = world.haproxy.add_service(&world.service, &tcp).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("sticky") && error.hint().is_some(), "{error}");
    })
    .await;
}
