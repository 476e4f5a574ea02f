//! A certificate by ACME: ordered where there is none, and renewed in time.
//!
//! Owns the order of steps with an authority and what is tried again when. Its result is a file among
//! those that are watched; it shows nothing itself and nobody waits for it. (RFC 8555)

mod client;
mod schedule;
mod folder;

use super::challenge::{Answers, Unmade};
use super::pair::Certificate;
use super::unix_s;
use crate::config::check::acme::{Acme, Challenge};
use crate::metrics::Metrics;
use client::{Client, UntrustedError};
use folder::{Folder, Unkept};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, ExternalAccountKey, Identifier, NewAccount,
    NewOrder, Order, OrderState, OrderStatus, Problem, RetryPolicy,
};
use schedule::Failures;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// An order from its first request to the certificate.
const ORDER_WITHIN: Duration = Duration::from_secs(420);
/// How long the authority is asked whether it is done with a step.
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// The same of the last one: what is issued after that is lost, and was one of the few there are.
const ISSUED_WITHIN: Duration = Duration::from_secs(240);
/// Between two questions for it where one was not answered.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at what is in the folder: somebody may have taken it away.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// What the authority says of an account that it does not know any more. (RFC 8555 §6.7)
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
/// That it makes none for who is unknown to it. (RFC 8555 §7.3.4)
const UNBOUND: &str = "urn:ietf:params:acme:error:externalAccountRequired";
/// What says nothing of the order itself. (RFC 8555 §6.7)
const PASSING: [&str; 3] = [
    "urn:ietf:params:acme:error:badNonce",
    "urn:ietf:params:acme:error:rateLimited",
    "urn:ietf:params:acme:error:serverInternal",
];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    #[error("{0}")]
    Trust(#[from] UntrustedError),
    #[error("tls.acme.storage: {0}")]
    Folder(#[from] Unkept),
    #[error(transparent)]
    Unmade(#[from] Unmade),
    #[error(
        "the authority makes accounts for those it knows only: write what it gives out for ACME into \
         tls.acme.eab_kid and tls.acme.eab_hmac_key"
    )]
    Unbound,
    #[error("the authority offers no such challenge for {0}: choose another in tls.acme.challenge")]
    NotOffered(String),
    #[error("the authority does not find that the hosts are ours: {0}")]
    NotOurs(String),
    #[error(
        "the certificate that was issued is not good for all hosts and for long: look at the clock of this machine"
    )]
    Useless,
    #[error("the authority does not finish the order ({0})")]
    Unfinished(&'static str),
}

/// A start alone does not try again.
const TRY_AT_ONCE: &str = "to try at once, remove the file and start anew";

/// Whoever orders.
pub(super) struct Orders {
    /// What and where.
    pub(super) acme: Acme,
    /// Shown while an order is under way.
    pub(super) answers: watch::Sender<Arc<Answers>>,
    /// Told when there is something new in the folder.
    pub(super) told: mpsc::Sender<()>,
    /// Counters.
    pub(super) metrics: Metrics,
}

impl Orders {
    /// Sees that there is a certificate, as long as anybody shows one.
    pub(super) async fn run(self) {
        let folder = Folder::new(&self.acme);
        let mut failures = folder.failures().await;
        self.tell_of(failures, &folder);
        while !self.answers.is_closed() {
            let left = failures.map_or(Duration::ZERO, |failures| failures.left(unix_s()));
            let wait = self.due_in(&folder).await.max(left);
            if !wait.is_zero() {
                sleep(wait.min(LOOK_EVERY)).await;
                continue;
            }
            let mut issued = false;
            let obtained = timeout(ORDER_WITHIN, self.obtain(&folder, &mut issued)).await;
            let obtained = obtained.unwrap_or(Err(AcmeError::Unfinished("in time")));
            self.answers.send_replace(Arc::default());
            let more = |_: &AcmeError| Failures::one_more(failures, issued, unix_s());
            failures = obtained.as_ref().err().map(more);
            // Before it is told, for then somebody may begin anew.
            if let Err(error) = folder.keep_failures(failures).await {
                tracing::warn!(%error, "a restart will not know when ACME failed");
            }
            if let (Err(error), Some(failures)) = (obtained, failures) {
                self.metrics.acme_order("failed");
                self.complain(&error, failures, &folder);
            } else {
                self.metrics.acme_order("issued");
                tracing::info!(domains = ?self.acme.domains, "certificate issued");
                // One look that waits does for this one too.
                let _ = self.told.try_send(());
            }
        }
    }

    /// What failed before the start is not tried again with each start.
    fn tell_of(&self, failures: Option<Failures>, folder: &Folder) {
        let left = failures.map_or(Duration::ZERO, |failures| failures.left(unix_s()));
        if !left.is_zero() {
            tracing::warn!(
                domains = ?self.acme.domains,
                again = ?left,
                fix = TRY_AT_ONCE,
                file = %folder.failures_file().display(),
                "ACME has failed before the start; it is tried again later"
            );
        }
    }

    fn complain(&self, error: &AcmeError, failures: Failures, folder: &Folder) {
        tracing::error!(
            domains = ?self.acme.domains,
            directory = self.acme.directory_url,
            cause = %error,
            again = ?failures.again(),
            fix = TRY_AT_ONCE,
            file = %folder.failures_file().display(),
            "no certificate by ACME; it is tried again"
        );
    }

    /// How long until a certificate is to be ordered.
    async fn due_in(&self, folder: &Folder) -> Duration {
        let stored = folder.certificate().await;
        let fits = |one: &Certificate| self.acme.domains.iter().all(|host| one.is_for(host));
        let stored = stored.filter(fits);
        let good = stored.map(|one| one.not_before..one.not_after);
        schedule::due_in(good, unix_s())
    }

    /// Sets `issued` from when on there may be a certificate, whether it is kept or not.
    async fn obtain(&self, folder: &Folder, issued: &mut bool) -> Result<(), AcmeError> {
        // One that cannot be kept would be ordered again and again, and there are so many a week.
        folder.prove().await?;
        let account = self.account(folder).await?;
        let ordered = self.order(&account, issued).await;
        if let Err(AcmeError::Authority(instant_acme::Error::Api(problem))) = &ordered
            && problem.r#type.as_deref() == Some(NO_ACCOUNT)
        {
            folder.forget_account().await?;
        }
        let (chain, key) = ordered?;
        folder.keep_certificate(&key, &chain).await?;
        // The next would be no better.
        match self.due_in(folder).await {
            Duration::ZERO => Err(AcmeError::Useless),
            _ => Ok(()),
        }
    }

    /// The account with the authority: the one that was made before, or a new one.
    async fn account(&self, folder: &Folder) -> Result<Account, AcmeError> {
        let client = Client::new(self.acme.ca_file.as_deref())?;
        let builder = Account::builder_with_http(Box::new(client));
        if let Some(credentials) = folder.account().await? {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let email = self.acme.email.iter();
        let contact: Vec<String> = email.map(|email| format!("mailto:{email}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.acme.directory_url.clone();
        let external = self.acme.external_account.as_ref();
        let external =
            external.map(|one| ExternalAccountKey::new(one.kid.clone(), one.key.bytes()));
        let created = builder.create(&new, directory, external.as_ref()).await;
        let (account, credentials) = created.map_err(unbound)?;
        folder.keep_account(&credentials).await?;
        Ok(account)
    }

    /// The chain and its key.
    async fn order(
        &self,
        account: &Account,
        issued: &mut bool,
    ) -> Result<(String, String), AcmeError> {
        let domains = self.acme.domains.iter();
        let hosts: Vec<Identifier> = domains.cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&hosts)).await?;
        self.answer(&mut order).await?;
        let patience = RetryPolicy::new().timeout(STEP_WITHIN);
        match order.poll_ready(&patience).await.map_err(not_ours)? {
            OrderStatus::Ready | OrderStatus::Valid => {}
            OrderStatus::Invalid => return Err(AcmeError::NotOurs(complaint(&mut order).await)),
            OrderStatus::Pending => return Err(AcmeError::Unfinished("pending")),
            OrderStatus::Processing => return Err(AcmeError::Unfinished("processing")),
        }
        // Whether an answer is lost or comes late, there may be a certificate from here on.
        *issued = true;
        let key = match order.finalize().await {
            Ok(key) => key,
            Err(error) => {
                *issued = is_begun(&mut order).await;
                return Err(error.into());
            }
        };
        let chain = timeout(ISSUED_WITHIN, chain(&mut order)).await;
        // Then it was refused.
        *issued = order.state().status != OrderStatus::Invalid;
        Ok((
            chain.map_err(|_| AcmeError::Unfinished("processing"))??,
            key,
        ))
    }

    /// Answers for every host that the authority does not know to be ours already.
    async fn answer(&self, order: &mut Order) -> Result<(), AcmeError> {
        let kind = match self.acme.challenge {
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Http01 => ChallengeType::Http01,
        };
        let mut answers = Answers::default();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let host = authorization.identifier().to_string();
            let challenge = authorization.challenge(kind.clone());
            let mut challenge = challenge.ok_or_else(|| AcmeError::NotOffered(host.clone()))?;
            let shown = challenge.key_authorization();
            match self.acme.challenge {
                Challenge::TlsAlpn01 => {
                    let digest = shown.digest();
                    let digest = digest.as_ref().try_into();
                    let digest = digest.map_err(|_| AcmeError::Unfinished("without digest"))?;
                    answers.add_host(&host, digest)?;
                }
                Challenge::Http01 => answers.add_page(&challenge.token, shown.as_str()),
            }
            self.answers.send_replace(Arc::new(answers.clone()));
            challenge.set_ready().await.map_err(not_ours)?;
        }
        Ok(())
    }
}

/// Has the authority begun to issue what was ordered? Who cannot ask must take it that it has.
async fn is_begun(order: &mut Order) -> bool {
    let not = [
        OrderStatus::Pending,
        OrderStatus::Ready,
        OrderStatus::Invalid,
    ];
    let state = order.refresh().await;
    state.map_or(true, |state| !not.contains(&state.status))
}

/// What was issued, asked for until it is there: an answer that is lost is no reason to order another one.
async fn chain(order: &mut Order) -> Result<String, instant_acme::Error> {
    let mut pause = ASK_EVERY;
    loop {
        let patience = RetryPolicy::new().timeout(ISSUED_WITHIN);
        match order.poll_certificate(&patience).await {
            Err(error) if !is_final(&error, order.state()) => {
                tracing::info!(%error, "what was ordered is not to be had yet");
                sleep(pause).await;
                // It may complain of just that.
                pause = (pause * 2).min(ASK_EVERY * 8);
            }
            ended => return ended,
        }
    }
}

/// Is nothing to be had by asking for it again?
fn is_final(error: &instant_acme::Error, state: &OrderState) -> bool {
    match error {
        _ if state.status == OrderStatus::Invalid => true,
        instant_acme::Error::Api(problem) => !passes(problem),
        _ => false,
    }
}

/// Does the authority complain of this question alone, or of how it is itself just now?
fn passes(problem: &Problem) -> bool {
    let kind = problem.r#type.as_deref();
    kind.is_some_and(|kind| PASSING.contains(&kind)) || problem.status.is_some_and(|s| s >= 500)
}

/// While it looks at hosts, what an authority refuses it refuses for what it has found.
fn not_ours(error: instant_acme::Error) -> AcmeError {
    match error {
        instant_acme::Error::Api(problem) => AcmeError::NotOurs(problem.to_string()),
        other => other.into(),
    }
}

/// What an authority that makes no account may want.
fn unbound(error: instant_acme::Error) -> AcmeError {
    match error {
        instant_acme::Error::Api(problem) if problem.r#type.as_deref() == Some(UNBOUND) => {
            AcmeError::Unbound
        }
        other => other.into(),
    }
}

/// What the authority says against an order.
async fn complaint(order: &mut Order) -> String {
    let mut all = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let host = authorization.identifier().to_string();
        let problems = authorization.challenges.iter();
        let problems = problems.filter_map(|challenge| challenge.error.as_ref());
        all.extend(problems.map(|problem| format!("{host}: {problem}")));
    }
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(status: &str) -> OrderState {
        let text = format!(
            r#"{{"status": "{status}", "authorizations": [], "finalize": "https://a.example/finalize"}}"#
        );
        serde_json::from_str(&text).expect("an order")
    }

    fn problem(kind: &str, status: Option<u16>) -> instant_acme::Error {
        instant_acme::Error::Api(Problem {
            r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
            detail: None,
            status,
            subproblems: Vec::new(),
        })
    }

    #[test]
    fn a_complaint_that_passes_is_no_reason_to_give_up_what_may_be_issued() {
        let processing = order("processing");
        for kind in ["badNonce", "rateLimited", "serverInternal"] {
            assert!(!is_final(&problem(kind, None), &processing), "{kind}");
            assert!(is_final(&problem(kind, None), &order("invalid")), "{kind}");
        }
        assert!(!is_final(&problem("another", Some(503)), &processing));
        assert!(is_final(&problem("unauthorized", Some(403)), &processing));
        assert!(is_final(&problem("malformed", None), &order("valid")));
        let unanswered = instant_acme::Error::Timeout(None);
        assert!(!is_final(&unanswered, &processing));
        assert!(is_final(&unanswered, &order("invalid")));
    }
}
