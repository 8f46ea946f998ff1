//! Every cell of the table, and the table against its cells.

use super::*;

/// One clause of a cell.
#[derive(Debug, Clone)]
struct Case {
    given: Option<Record>,
    event: Event,
    now_ms: u64,
    expected: Step,
}

/// A row: its name in the table, and the clauses of its seven cells.
struct Row(&'static str, [Vec<Case>; 7]);

/// A clause with the default answer: the holder does not hold the payment.
fn when(given: impl Into<Option<Record>>, event: Event, now_ms: u64) -> Case {
    let given = given.into();
    let expected =
        Step { answer: Answer::NotHeld, record: given.clone(), changed: false, effects: Vec::new() };
    Case { given, event, now_ms, expected }
}

// === impl Case ===

impl Case {
    fn says(mut self, answer: Answer) -> Self {
        self.expected.answer = answer;
        self
    }
    fn becomes(mut self, record: Record) -> Self {
        self.expected.record = Some(Record { since_ms: self.now_ms, ..record });
        self.expected.changed = true;
        self
    }
    fn ends(mut self) -> Self {
        (self.expected.record, self.expected.changed) = (None, true);
        self
    }
    fn with<const N: usize>(mut self, effects: [Effect; N]) -> Self {
        self.expected.effects = effects.into();
        self
    }
    /// `=`, with the answer for an open, used or busy payment.
    fn busy(self) -> Self {
        self.says(Answer::InFlight)
    }
    fn used(self) -> Self {
        self.says(Answer::Used)
    }
    fn open(self) -> Self {
        let transaction = self.given.as_ref().and_then(|record| record.transaction.clone());
        self.says(Answer::Open { transaction })
    }
    fn noted(self) -> Self {
        self.says(Answer::Noted)
    }
    fn late(mut self) -> Self {
        self.expected.effects = vec![Effect::SettledLate];
        self
    }
    fn settled(self) -> Self {
        self.says(Answer::Settled { transaction: hash() })
    }
}

fn contradiction(text: &str) -> Effect {
    Effect::Contradicted(text.to_owned())
}
fn held_by(holder: Holder, until_ms: u64) -> Hold {
    Hold { holder, until_ms }
}
fn says_call(case: Case, epoch: u32) -> Case {
    let transaction = case.given.as_ref().and_then(|record| record.transaction.clone());
    case.says(Answer::Call { epoch, call: Arc::from(&b"call"[..]), transaction })
}

/// The next call, of this holder.
fn calls(case: Case, holder: Holder, waits: bool) -> Case {
    let given = case.given.clone().unwrap();
    let epoch = given.epoch + 1;
    let hold = held_by(holder, case.now_ms + 200);
    let was_open = given.is_open();
    let record = Record { epoch, state: Settling { hold, waits }, ..given };
    let opens = !was_open && epoch > 1;
    let case = says_call(case, epoch).becomes(record);
    if opens { case.with([Effect::Opened]) } else { case }
}

/// Reserved for the claim of the event.
fn reserves(case: Case) -> Case {
    let Event::Claim(claim) = &case.event else { panic!("no claim") };
    let record = claimed(claim, case.now_ms);
    case.says(Answer::Reserved).becomes(record)
}

/// Fetched by the claim of the event.
fn redeems(case: Case) -> Case {
    let Event::Claim(claim) = &case.event else { panic!("no claim") };
    let hold = Some(held_by(claim.holder, case.now_ms + 600));
    let given = case.given.clone().unwrap();
    let lapsed = if let Owed { hold } = &given.state { hold.map(|hold| hold.holder) } else { None };
    let record = Record { redeemed: true, before: lapsed, state: Owed { hold }, ..given };
    case.says(Answer::Redeem { transaction: hash() }).becomes(record).with([Effect::Redeemed])
}

/// The cells of a claim of the same payment for the same terms. Other rows differ in some cells.
fn same_claim(claim: Claim) -> [Vec<Case>; 7] {
    let event = || Event::Claim(claim.clone());
    let when = |given: Record, now_ms| when(given, event(), now_ms);
    [
        vec![reserves(super::table::when(None, event(), RUNS))],
        vec![when(verified_one(), RUNS).busy(), reserves(when(verified_one(), OVER))],
        vec![when(settling(1), RUNS).busy(), calls(when(settling(1), OVER), claim.holder, true)],
        vec![calls(when(unknown_one(), RUNS), claim.holder, true)],
        vec![redeems(when(owed(), RUNS))],
        vec![when(under_way(), RUNS).busy(), redeems(when(under_way(), OVER)), when(redeemed(), OVER).used()],
        vec![when(delivered(), RUNS).used()],
    ]
}

fn with_cells<const N: usize>(mut cells: [Vec<Case>; 7], others: [(usize, Vec<Case>); N]) -> [Vec<Case>; 7] {
    for (column, cell) in others {
        cells[column] = cell;
    }
    cells
}

/// One clause for each column, made in the same way.
fn each(make: impl Fn(Option<Record>) -> Case) -> [Vec<Case>; 7] {
    columns().map(|given| vec![make(given)])
}

fn claims() -> Vec<Row> {
    let own = Claim { holder: HOLDER, ..claim() };
    let mute = Claim { can_settle: false, ..claim() };
    let known = Claim { only_known: true, ..claim() };
    let twin = Claim { twin: Some(Twin { transaction: Some("0x2".to_owned()) }), ..claim() };
    let dear = Claim { terms: other_terms(), ..claim() };
    let other = Claim { fingerprint: Fingerprint([0xe; 32]), ..claim() };
    let of = |claim: &Claim, given: Option<Record>, now_ms| when(given, Event::Claim(claim.clone()), now_ms);
    let is_twin = || Answer::Twin { transaction: Some("0x2".to_owned()) };
    let paid_for = || Answer::PaidFor { terms: Box::new(terms()), transaction: hash() };
    let own_cells = with_cells(
        same_claim(own.clone()),
        [
            (1, vec![of(&own, Some(verified_one()), RUNS).says(Answer::Reserved)]),
            (2, vec![of(&own, Some(settling(1)), RUNS).busy()]),
            (5, vec![of(&own, Some(redeemed()), OVER).says(Answer::Redeem { transaction: hash() })]),
        ],
    );
    let mute_cells = with_cells(
        same_claim(mute.clone()),
        [
            (2, vec![of(&mute, Some(settling(1)), RUNS).busy(), of(&mute, Some(settling(1)), OVER).open()]),
            (3, vec![of(&mute, Some(unknown_one()), RUNS).open()]),
        ],
    );
    let known_cells = with_cells(
        same_claim(known.clone()),
        [
            (0, vec![of(&known, None, RUNS).says(Answer::New)]),
            (1, vec![of(&known, Some(verified_one()), OVER).busy()]),
        ],
    );
    let twin_cells = with_cells(
        same_claim(twin.clone()),
        [
            (0, vec![of(&twin, None, RUNS).says(is_twin())]),
            (
                1,
                vec![
                    of(&twin, Some(verified_one()), RUNS).busy(),
                    of(&twin, Some(verified_one()), OVER).says(is_twin()),
                ],
            ),
        ],
    );
    let dear_cells = with_cells(
        same_claim(dear.clone()),
        [
            (
                1,
                vec![
                    of(&dear, Some(verified_one()), RUNS).says(Answer::OtherTerms),
                    reserves(of(&dear, Some(verified_one()), OVER)),
                ],
            ),
            (2, vec![of(&dear, Some(settling(1)), OVER).says(Answer::OtherTerms)]),
            (3, vec![of(&dear, Some(unknown_one()), RUNS).open()]),
            (4, vec![of(&dear, Some(owed()), RUNS).says(paid_for())]),
            (5, vec![of(&dear, Some(under_way()), OVER).says(paid_for())]),
        ],
    );
    let other_cells = with_cells(
        same_claim(other.clone()),
        [
            (
                1,
                vec![
                    of(&other, Some(verified_one()), RUNS).says(Answer::OtherPayment),
                    reserves(of(&other, Some(verified_one()), OVER)),
                    reserves(of(&other, Some(unproven_one()), RUNS)),
                ],
            ),
            (2, vec![of(&other, Some(settling(1)), OVER).says(Answer::OtherPayment)]),
            (3, vec![of(&other, Some(unknown_one()), RUNS).says(Answer::OtherPayment)]),
            (4, vec![of(&other, Some(owed()), RUNS).used()]),
            (5, vec![of(&other, Some(under_way()), OVER).used()]),
        ],
    );
    vec![
        Row("claim, same fingerprint and terms", same_claim(claim())),
        Row("the same, by its holder once more", own_cells),
        Row("the same, where no call can be made", mute_cells),
        Row("the same, of a known payment only", known_cells),
        Row("the same, with a twin", twin_cells),
        Row("claim, same fingerprint, other terms", dear_cells),
        Row("claim, other fingerprint", other_cells),
    ]
}

fn requests() -> Vec<Row> {
    let verified = each(|given| when(given, Event::Verified(HOLDER), RUNS));
    let verified = with_cells(
        verified,
        [(1, vec![when(reserved_one(), Event::Verified(HOLDER), OVER).noted().becomes(verified_one())])],
    );
    let begin = |given: Record| when(given, Event::Begin(HOLDER), OVER);
    let begun = [
        vec![when(None, Event::Begin(HOLDER), OVER)],
        vec![calls(begin(verified_one()), HOLDER, true), begin(reserved_one())],
        vec![begin(settling(1)).says(Answer::Begun)],
        vec![begin(unknown_one()).open()],
        vec![begin(owed()).busy()],
        vec![begin(under_way()).settled()],
        vec![begin(delivered()).busy()],
    ];
    let begin = |given: Record| when(given, Event::Begin(ANOTHER), OVER);
    let begun_by_another = [
        vec![when(None, Event::Begin(ANOTHER), OVER)],
        vec![begin(verified_one()).busy()],
        vec![begin(settling(1)).open()],
        vec![begin(unknown_one()).open()],
        vec![begin(owed()).busy()],
        vec![begin(under_way()).busy()],
        vec![begin(delivered()).busy()],
    ];
    vec![
        Row("verified, by the holder", verified),
        Row("verified, by another", each(|given| when(given, Event::Verified(ANOTHER), RUNS))),
        Row("settle begun, by the holder", begun),
        Row("settle begun, by another", begun_by_another),
    ]
}

fn ends() -> Vec<Row> {
    let over = |given: Option<Record>, end| when(given, Event::Over(HOLDER, end), OVER);
    let common = || {
        with_cells(
            each(|given| over(given, End::Broken)),
            [
                (1, vec![over(Some(verified_one()), End::Whole).noted().ends()]),
                (
                    2,
                    vec![
                        over(Some(settling(1)), End::Unsent).noted().becomes(settling_alone(1)),
                        over(Some(settling_alone(1)), End::Unsent),
                    ],
                ),
            ],
        )
    };
    let whole = [
        over(Some(under_way()), End::Whole).noted().becomes(delivered()),
        over(Some(redeemed()), End::Whole).noted().becomes(Record { redeemed: true, ..delivered() }),
    ];
    let broken = [
        over(Some(under_way()), End::Broken).noted().becomes(owed()),
        over(Some(redeemed()), End::Broken).noted().becomes(Record { redeemed: true, ..delivered() }),
    ];
    let unsent = [
        over(Some(under_way()), End::Unsent).noted().becomes(owed()),
        over(Some(redeemed()), End::Unsent).noted().becomes(owed()),
    ];
    let unheard = [
        over(Some(under_way()), End::Unheard).noted().becomes(owed()).late(),
        over(Some(redeemed()), End::Unheard).noted().becomes(owed()),
    ];
    let longer = Hold { holder: HOLDER, until_ms: OVER + 600 };
    let goes_on = |given: Record, state: State| {
        over(Some(given.clone()), End::NotYet).noted().becomes(Record { state, ..given })
    };
    let not_yet = with_cells(
        each(|given| over(given, End::NotYet)),
        [
            (1, vec![goes_on(verified_one(), Reserved { hold: longer, trust: Trust::Vouched })]),
            (5, vec![goes_on(under_way(), Owed { hold: Some(longer) })]),
        ],
    );
    let by_another = each(|given| when(given, Event::Over(ANOTHER, End::Whole), RUNS));
    let lapsed = |given: Record| {
        let given = Record { before: Some(ANOTHER), ..given };
        when(given, Event::Over(ANOTHER, End::Whole), RUNS).noted().becomes(delivered())
    };
    let by_one_before = with_cells(
        each(|given| when(given, Event::Over(ANOTHER, End::Whole), RUNS)),
        [(4, vec![lapsed(owed())]), (5, vec![lapsed(under_way())])],
    );
    vec![
        Row("answer delivered whole, by the holder", with_cells(common(), [(5, whole.into())])),
        Row("answer delivered whole, by one whose hold lapsed", by_one_before),
        Row("answer broke off, by the holder", with_cells(common(), [(5, broken.into())])),
        Row("answer was never sent, by the holder", with_cells(common(), [(5, unsent.into())])),
        Row(
            "answer was never sent, and the settlement not heard of, by the holder",
            with_cells(common(), [(5, unheard.into())]),
        ),
        Row("not over yet, by the holder", not_yet),
        Row("any end, by another", by_another),
    ]
}

fn ended(epoch: u32, holder: Holder, outcome: Outcome, claim: Option<Claim>) -> Event {
    Event::Ended { epoch, holder, outcome, claim: claim.map(Box::new) }
}
fn says_settled() -> Outcome {
    Outcome::Settled { transaction: hash() }
}
fn says_refused() -> Outcome {
    Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None }
}

fn settlements() -> Vec<Row> {
    let own = || Claim { holder: HOLDER, ..claim() };
    let settled = |given: Option<Record>| when(given, ended(1, HOLDER, says_settled(), Some(own())), RUNS);
    let charge = |record: Record, hold| Record {
        transaction: Some(hash()),
        call: Arc::default(),
        state: Owed { hold },
        ..record
    };
    let now_held = || Some(held_by(HOLDER, RUNS + 600));
    let opened = || Answer::Open { transaction: Some(hash()) };
    let unseen = "settled, though no call of it is on record";
    let lost = "settled, though there is no record of it";
    let unheard = "settled, though nothing at all is known of it";
    let of_lost = || Record { epoch: 1, ..charge(claimed(&own(), RUNS), now_held()) };
    let any_call = [
        vec![
            settled(None).settled().becomes(of_lost()).with([Effect::Charged, contradiction(lost)]),
            when(None, ended(1, HOLDER, says_settled(), None), RUNS).noted().with([contradiction(unheard)]),
        ],
        vec![settled(Some(verified_one())).says(opened()).becomes(charge(verified_one(), None)).with([
            Effect::Charged,
            Effect::SettledLate,
            contradiction(unseen),
        ])],
        vec![
            settled(Some(settling(1)))
                .settled()
                .becomes(charge(settling(1), now_held()))
                .with([Effect::Charged]),
            settled(Some(settling_alone(2))).says(opened()).becomes(charge(settling_alone(2), None)).with([
                Effect::Charged,
                Effect::Closed,
                Effect::SettledLate,
            ]),
        ],
        vec![settled(Some(unknown_one())).says(opened()).becomes(charge(unknown_one(), None)).with([
            Effect::Charged,
            Effect::Closed,
            Effect::SettledLate,
        ])],
        vec![settled(Some(owed())).open()],
        vec![
            settled(Some(under_way())).settled(),
            when(under_way(), ended(1, ANOTHER, says_settled(), Some(claim())), RUNS).busy(),
        ],
        vec![settled(Some(delivered())).used()],
    ];
    let other = || Claim { fingerprint: Fingerprint([0xe; 32]), ..own() };
    let other_settled =
        |given: Option<Record>| when(given, ended(1, HOLDER, says_settled(), Some(other())), RUNS);
    let of_other = || Record { fingerprint: Some(Fingerprint([0xe; 32])), ..of_lost() };
    let on_record = "settled, though another authorization of its nonce is on record";
    let is_charged = "settled, though another authorization of its nonce is";
    let replaced = |given: Record| {
        other_settled(Some(given))
            .settled()
            .becomes(of_other())
            .with([Effect::Charged, contradiction(on_record)])
    };
    let refused = |given| other_settled(Some(given)).used().with([contradiction(is_charged)]);
    let other_payment = [
        vec![other_settled(None).settled().becomes(of_other()).with([Effect::Charged, contradiction(lost)])],
        vec![replaced(verified_one())],
        vec![
            replaced(settling(1)),
            replaced(settling(2)).with([Effect::Charged, Effect::Closed, contradiction(on_record)]),
        ],
        vec![replaced(unknown_one()).with([Effect::Charged, Effect::Closed, contradiction(on_record)])],
        vec![refused(owed())],
        vec![refused(under_way())],
        vec![refused(delivered())],
    ];
    vec![Row("settled, any call", any_call), Row("settled, another payment of the nonce", other_payment)]
}

/// Outcomes that prove nothing, or prove that nothing happened.
fn refusals() -> Vec<Row> {
    let standing = |outcome: Outcome, epoch: u32, holder: Holder| {
        let of = move |given: Option<Record>| when(given, ended(epoch, holder, outcome.clone(), None), OVER);
        let is_held = holder == HOLDER;
        let way = of(Some(under_way()));
        [
            vec![of(None).noted()],
            vec![of(Some(verified_one())).busy()],
            vec![of(Some(settling(1))).open()],
            vec![of(Some(unknown_one())).open()],
            vec![of(Some(owed())).open()],
            vec![if is_held { way.settled() } else { way.busy() }],
            vec![of(Some(delivered())).used()],
        ]
    };
    let own = |outcome: &Outcome, given: Record| {
        let epoch = given.epoch;
        when(given, ended(epoch, HOLDER, outcome.clone(), None), OVER)
    };
    let unknown_after = |given: Record, transaction: Option<&str>| Record {
        transaction: transaction.map(str::to_owned),
        state: Unknown,
        ..given
    };
    let nothing_moved = |outcome: &Outcome, reason: &str| {
        let first = own(outcome, settling(1)).noted().ends().with([Effect::Refused(reason.to_owned())]);
        let later = own(outcome, settling(2)).open().becomes(unknown_after(settling(2), None));
        vec![first, later]
    };
    let odd = "refused (insufficient_funds), though it is settled";
    let contradicts =
        |cell: Vec<Case>| cell.into_iter().map(|case| case.with([contradiction(odd)])).collect::<Vec<_>>();
    let [none, reserved, _, unknown, owed, way, done] = standing(says_refused(), 1, HOLDER);
    let refused = [
        none,
        reserved,
        nothing_moved(&says_refused(), "insufficient_funds"),
        unknown,
        contradicts(owed),
        contradicts(way),
        contradicts(done),
    ];
    let malformed = Outcome::Malformed { words: "no such field".to_owned() };
    let silent = |transaction: Option<&str>| Outcome::Unknown {
        transaction: transaction.map(str::to_owned),
        reason: String::new(),
    };
    let unanswered = with_cells(
        standing(silent(None), 1, HOLDER),
        [(
            2,
            vec![
                own(&silent(Some("0x1")), settling(1))
                    .says(Answer::Open { transaction: Some(hash()) })
                    .becomes(unknown_after(settling(1), Some("0x1")))
                    .with([Effect::Opened]),
                own(&silent(None), settling(2)).open().becomes(unknown_after(settling(2), None)),
            ],
        )],
    );
    let cannot_read =
        with_cells(standing(malformed.clone(), 1, HOLDER), [(2, nothing_moved(&malformed, "no such field"))]);
    let not_sent = with_cells(
        standing(Outcome::NotSent, 1, HOLDER),
        [(2, nothing_moved(&Outcome::NotSent, "the call was not sent"))],
    );
    let stale = with_cells(
        standing(says_refused(), 7, ANOTHER),
        [(
            2,
            vec![
                when(settling(2), ended(1, HOLDER, says_refused(), None), OVER).open(),
                when(settling(2), ended(2, ANOTHER, says_refused(), None), OVER).open(),
            ],
        )],
    );
    vec![
        Row("refused by its call, nothing can have moved", refused),
        Row("malformed, by its call", cannot_read),
        Row("no answer, garbage, pending, by its call", unanswered),
        Row("not sent, by its call", not_sent),
        Row("any but settled, by another call", stale),
    ]
}

fn others() -> Vec<Row> {
    let ask = |given: Record, now_ms| when(given, Event::Ask(ANOTHER), now_ms);
    let often = |record: Record| Record { epoch: 32, ..record };
    let asked = with_cells(
        each(|given| when(given, Event::Ask(ANOTHER), 10_000)),
        [
            (
                2,
                vec![
                    ask(settling(1), RUNS),
                    calls(ask(settling(1), OVER), ANOTHER, false),
                    ask(often(settling(1)), OVER)
                        .open()
                        .becomes(Record { state: Unknown, ..often(settling(1)) }),
                ],
            ),
            (
                3,
                vec![
                    ask(unknown_one(), 2_099),
                    calls(ask(unknown_one(), 2_100), ANOTHER, false),
                    ask(often(unknown_one()), u64::MAX),
                ],
            ),
        ],
    );
    let says = |given: Option<Record>, resolution: &Resolution, now_ms| {
        when(given, Event::Resolve(resolution.clone()), now_ms)
    };
    let yes = Resolution::Settled { transaction: hash() };
    let charge = |record: Record, hold| Record {
        transaction: Some(hash()),
        call: Arc::default(),
        state: Owed { hold },
        ..record
    };
    let late = |given: Record, effects: &[Effect]| {
        let record = charge(given.clone(), None);
        let mut case = says(Some(given), &yes, OVER).settled().becomes(record);
        case.expected.effects = [&[Effect::Charged][..], effects, &[Effect::SettledLate]].concat();
        case
    };
    let resolved = [
        vec![says(None, &yes, OVER).says(Answer::New)],
        vec![late(verified_one(), &[])],
        vec![
            says(Some(settling(1)), &yes, RUNS).busy(),
            says(Some(settling(1)), &yes, OVER)
                .settled()
                .becomes(charge(settling(1), Some(held_by(HOLDER, OVER + 600))))
                .with([Effect::Charged]),
            late(settling_alone(2), &[Effect::Closed]),
        ],
        vec![late(unknown_one(), &[Effect::Closed])],
        vec![says(Some(owed()), &yes, OVER).used()],
        vec![says(Some(under_way()), &yes, OVER).used()],
        vec![says(Some(delivered()), &yes, OVER).used()],
    ];
    let no = Resolution::Refused;
    let gone = |given: Record, effects: &[Effect]| {
        let mut case = says(Some(given), &no, OVER).noted().ends();
        case.expected.effects = [&[Effect::Refused("said by an operator".to_owned())][..], effects].concat();
        case
    };
    let closed = &[Effect::Closed, Effect::RefusedLate];
    let dismissed = [
        vec![says(None, &no, OVER).says(Answer::New)],
        vec![gone(verified_one(), &[])],
        vec![says(Some(settling(2)), &no, RUNS).busy(), gone(settling(1), &[])],
        vec![gone(unknown_one(), closed)],
        vec![says(Some(owed()), &no, OVER).used()],
        vec![says(Some(under_way()), &no, OVER).used()],
        vec![says(Some(delivered()), &no, OVER).used()],
    ];
    let sweep =
        |given: Option<Record>, now_ms| when(given, Event::Sweep { retention: RETENTION }, now_ms).noted();
    let (kept_until, window_over) = (100 + RETENTION * 1000, 601_000);
    let after = |given: fn() -> Record, effects: &[Effect]| {
        let mut gone = sweep(Some(given()), kept_until + 1).ends();
        gone.expected.effects = effects.to_vec();
        vec![sweep(Some(given()), kept_until), gone]
    };
    let swept = [
        vec![sweep(None, u64::MAX)],
        vec![
            sweep(Some(reserved_one()), RUNS),
            sweep(Some(reserved_one()), OVER).ends(),
            sweep(Some(verified_one()), window_over - 1),
            sweep(Some(verified_one()), window_over).ends(),
        ],
        vec![sweep(Some(settling(2)), u64::MAX)],
        after(unknown_one, &[Effect::Closed, Effect::NeverKnown]),
        after(owed, &[]),
        after(under_way, &[]),
        after(delivered, &[]),
    ];
    vec![
        Row("asked about again", asked),
        Row("an operator says: settled", resolved),
        Row("an operator says: refused", dismissed),
        Row("sweep", swept),
    ]
}

fn check(rows: Vec<Row>) {
    for Row(name, cells) in rows {
        for (column, cases) in cells.into_iter().enumerate() {
            for case in cases {
                let stepped = step(case.given.clone(), case.event, &LEASES, at(case.now_ms));
                assert_eq!(stepped, case.expected, "{name}, column {column}, given {:#?}", case.given);
            }
        }
    }
}

#[test]
fn a_claim_is_answered_by_what_is_known() {
    check(claims());
}

#[test]
fn only_the_holder_of_a_verified_payment_begins_to_settle() {
    check(requests());
}

#[test]
fn proven_settled_always_wins() {
    check(settlements());
}

#[test]
fn a_refusal_ends_only_what_cannot_have_moved() {
    check(refusals());
}

#[test]
fn an_answer_that_did_not_arrive_is_owed_once() {
    check(ends());
}

#[test]
fn a_call_without_an_answer_is_asked_about_resolved_or_given_up() {
    check(others());
}

/// The cells of the table in the source, by row.
fn documented() -> Vec<(String, Vec<String>)> {
    let lines = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
    let rows = lines.filter(|line| !line.starts_with("---")).map(|line| {
        let mut cells = line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.collect())
    });
    rows.collect()
}

/// The word of the table for an answer.
fn word_for(answer: &Answer) -> &'static str {
    match answer {
        Answer::InFlight | Answer::OtherTerms | Answer::OtherPayment | Answer::PaidFor { .. } => "409",
        Answer::Used | Answer::New => "402",
        Answer::Open { .. } => "503",
        Answer::NotHeld => "–",
        Answer::Noted => "noted",
        Answer::Begun => "begun",
        Answer::Settled { .. } => "settled",
        Answer::Reserved | Answer::Redeem { .. } => "go on",
        Answer::Twin { .. } => "twin",
        Answer::Call { .. } => "call",
    }
}

fn column_of(record: Option<&Record>) -> &'static str {
    match record.map(|record| &record.state) {
        None => "none",
        Some(Reserved { .. }) => "reserved",
        Some(Settling { .. }) => "settling",
        Some(Unknown) => "unknown",
        Some(Owed { hold: None }) => "owed",
        Some(Owed { hold: Some(_) }) => "under way",
        Some(Delivered) => "delivered",
    }
}

#[test]
fn the_table_says_what_the_machine_does() {
    let mut documented = documented().into_iter();
    let (_, columns) = documented.next().unwrap();
    let rows = [claims(), requests(), settlements(), refusals(), ends(), others()].into_iter().flatten();
    let mut rows: Vec<_> = rows.collect();
    for (name, cells) in documented {
        let place = rows.iter().position(|row| row.0 == name);
        let Row(_, expected) = rows.remove(place.unwrap_or_else(|| panic!("no test for the row {name:?}")));
        assert_eq!(cells.len(), columns.len(), "{name}");
        for ((column, cell), cases) in columns.iter().zip(cells).zip(expected) {
            let clauses: Vec<_> = cell.split(';').map(str::trim).collect();
            assert_eq!(clauses.len(), cases.len(), "{name}, {column}: {cell}");
            for (clause, case) in clauses.into_iter().zip(cases) {
                let place = format!("{name}, {column}: {clause}");
                assert_eq!(column_of(case.given.as_ref()), column, "{place}");
                let says = clause.rsplit(": ").next().unwrap();
                if case.expected.changed {
                    let state = format!("**{}**", column_of(case.expected.record.as_ref()));
                    assert!(says.starts_with(&state), "{place}, but the machine: {state}");
                } else {
                    let word = word_for(&case.expected.answer);
                    assert!(says.starts_with(word), "{place}, but the machine: {word} =");
                    assert!(word == "–" || says.ends_with('='), "{place}, but the machine: =");
                }
                let contradicts = |effect: &Effect| matches!(effect, Effect::Contradicted(_));
                let contradicts = case.expected.effects.iter().any(contradicts);
                assert_eq!(contradicts, says.contains('!'), "{place}");
            }
        }
    }
    let names: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert!(names.is_empty(), "not in the table: {names:?}");
}
