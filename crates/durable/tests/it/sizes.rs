//! The room that a visit takes in the file, rows, indices and whole snapshots included.

use flowstone_core::{Action, END, Flow};
use flowstone_durable::{Durability, StoreOptions};
use serde::{Deserialize, Serialize};

use crate::common::Folder;

#[derive(Clone, Serialize, Deserialize)]
struct Chat {
    messages: Vec<String>,
    turns: usize,
    of: usize,
}

/// Messages of 200 letters that no two share.
fn message(number: usize) -> String {
    let mut random = number as u64 + 1;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"etaoin shrdlucmfwypvbgkqjxz"[(random >> 33) as usize % 27])
    };
    (0..200).map(|_| letter()).collect()
}

/// By how much a run of so many visits makes a store larger, divided by them.
async fn bytes_a_visit(visits: usize, turn: fn(&mut Chat)) -> u64 {
    let folder = Folder::new();
    StoreOptions::new().open(folder.store()).await.unwrap().close().await;
    let empty = std::fs::metadata(folder.store()).unwrap().len();
    let store = StoreOptions::new().durability(Durability::Behind(64)).open(folder.store()).await.unwrap();
    let mut flow = Flow::builder("chat");
    let turn = flow.add("turn", move |chat: &mut Chat| {
        turn(chat);
        chat.turns += 1;
        Action::from(if chat.turns < chat.of { "again" } else { "done" })
    });
    flow.start(turn);
    flow.route(turn - "again" >> turn);
    flow.route(turn - "done" >> END);
    let runs = store.runs(flow.build().unwrap()).await.unwrap();
    let chat = Chat { messages: (0..50).map(message).collect(), turns: 0, of: visits };
    runs.start("r", chat).await.unwrap().finished().await.unwrap().ended().unwrap();
    store.close().await;
    (std::fs::metadata(folder.store()).unwrap().len() - empty) / visits as u64
}

#[tokio::test]
async fn a_chat_in_which_a_counter_changes_takes_under_200_bytes_a_visit() {
    let bytes = bytes_a_visit(1000, |_| ()).await;

    assert!(bytes < 200, "{bytes}");
}

#[tokio::test]
async fn a_chat_that_gains_a_message_takes_about_the_message_a_visit() {
    let bytes = bytes_a_visit(500, |chat| chat.messages.push(message(chat.messages.len()))).await;

    // The message, compressed, is 180 bytes; the rest is the row, and its share of three whole states of up to 49 KB.
    assert!(bytes < 450, "{bytes}");
}
