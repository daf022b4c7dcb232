//! Clients that stay with the version that they got.

use std::collections::BTreeMap;

use deploykit_core::{
    BlueGreen, Canary, Change, LoadBalancer, Outcome, Place, Rolling, Routing, Strategy, Weight,
};
use deploykit_testing::{Behaviour, Traffic};
use tokio::time::sleep;

use crate::{A, B, healthy, launch, ms, world};

const CLIENTS: u32 = 1_000;
/// All of them come by within a second.
const ALL: Traffic = Traffic::per_second(CLIENTS).with_sticky_clients(CLIENTS);

fn percent(percent: u16) -> Weight {
    Weight::percent(percent).unwrap()
}

/// Whether so many of the clients lie within the 99.9 % range of a draw with this chance.
fn is_fair(clients: usize, chance: f64) -> bool {
    let (hits, n) = (clients as f64, f64::from(CLIENTS));
    (hits - n * chance).abs() <= 3.291 * (n * chance * (1.0 - chance)).sqrt()
}

#[tokio::test(start_paused = true)]
async fn a_growing_share_only_adds_clients_whichever_place_it_is_that_grows() {
    let (world, web) = world(2, Behaviour::good());
    let c = Place::all().nth(2).unwrap();
    for place in [B, c] {
        launch(&world, &web, place, "web:2", 2).await;
        healthy(&world, &web, place, 2).await;
    }
    let traffic = world.start_traffic(&web, ALL);
    sleep(ms(1_100)).await;
    let mut moves = BTreeMap::new();
    for (stable, candidate) in [(A, B), (B, A), (A, c), (c, B)] {
        for share in [1, 10, 50, 100] {
            let routing = Routing::split(stable, candidate, percent(share));
            world.balancer().set_routing(&web, &routing).await.unwrap();
            sleep(ms(1_100)).await;
            let clients = traffic.clients_of(candidate);
            assert!(is_fair(clients, f64::from(share) / 100.0), "{candidate} {share} %: {clients}");
        }
        // Each of them once, and none back.
        moves.insert((stable, candidate), u64::from(CLIENTS));
        assert_eq!(traffic.moves(), moves);
    }
    assert_eq!(traffic.stop().await.failed, 0);
}

/// A rollout, and how clients moved in it.
async fn rollout(
    strategy: impl Strategy,
    next: Behaviour,
) -> (Outcome, BTreeMap<(Place, Place), u64>) {
    let (world, web) = world(4, next);
    let deployer = world.deployer().gate("live", world.http_gate("/").live()).build();
    let traffic = world.start_traffic(&web, ALL);
    sleep(ms(1_100)).await;
    let rollout = deployer.rollout(&web, &strategy, Change::to("web:2")).await.unwrap();
    let report = rollout.await.unwrap();
    sleep(ms(1_100)).await;
    (report.outcome, traffic.moves())
}

#[tokio::test(start_paused = true)]
async fn no_client_goes_back_in_a_rollout_of_any_strategy() {
    let steps = [percent(1), percent(10), percent(50)];
    let canary = Canary::steps(steps.map(|share| (share, ms(5_000))));
    let all = BTreeMap::from([((A, B), u64::from(CLIENTS))]);
    let blue_green = BlueGreen::new().shift_in(steps, ms(5_000));
    let (good, promoted) = (Behaviour::good(), (Outcome::Promoted, all));
    assert_eq!(rollout(blue_green, good).await, promoted);
    assert_eq!(rollout(canary, good).await, promoted);
    assert_eq!(rollout(Rolling::new(), good).await, promoted);
    assert_eq!(rollout(Rolling::new().pooled(), good).await, promoted);
}

#[tokio::test(start_paused = true)]
async fn an_undo_takes_back_only_those_who_had_gone() {
    let strategy = BlueGreen::new().shift_in([percent(10)], ms(60_000)).watch(["live"]);
    let bad = Behaviour::good().errors_after_first_live_request();
    let (outcome, moves) = rollout(strategy, bad).await;
    assert_eq!(outcome, Outcome::RolledBack);
    assert_eq!(moves.get(&(A, B)), moves.get(&(B, A)), "{moves:?}");
    assert!(is_fair(usize::try_from(moves[&(A, B)]).unwrap(), 0.1), "{moves:?}");
}
