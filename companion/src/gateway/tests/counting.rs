//! What the gateway writes down, and when.

use super::world::{World, payment};

#[tokio::test]
async fn each_answer_is_one_line_that_is_written_before_its_head_is_sent() {
    let world = World::start().await;
    let mut written = 0;
    let mut next_line = || {
        let lines = world.lines();
        written += 1;
        assert_eq!(lines.len(), written);
        let names = |line: &farebox_core::metrics::SpoolLine| line.series.len();
        names(&lines[written - 1])
    };
    assert_eq!(world.get("/paid/x").await.status, 402);
    assert_eq!(next_line(), 1);
    assert_eq!(world.get("/elsewhere").await.status, 404);
    assert_eq!(next_line(), 1);
    // Presented, verified, and two calls with bucket and sum.
    let streaming = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    assert_eq!((streaming.status().as_u16(), next_line()), (200, 6));
    assert_eq!(world.pay("/paid/500", &payment(2)).await.status, 500);
    assert_eq!(next_line(), 4);
    assert_eq!(world.get("/free/x").await.status, 200);
    assert_eq!(world.lines().len(), written, "a free request counts nothing");
}

#[tokio::test]
async fn a_spool_that_cannot_be_written_to_refuses_no_request_and_what_is_missing_is_said() {
    let world = World::start().await;
    std::fs::remove_file(&world.spool).unwrap();
    std::fs::create_dir(&world.spool).unwrap();
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
    assert_eq!(world.get("/paid/x").await.status, 402);
    assert_eq!((world.dev.settled().await, world.charged().await), (1, 1));
    std::fs::remove_dir(&world.spool).unwrap();
    assert_eq!(world.get("/paid/x").await.status, 402);
    assert_eq!(world.lines().iter().map(|line| line.lost).collect::<Vec<_>>(), [2]);
}
