/** What the card of an account and the page of its peer show alike. */

import { type Account, creditUsed, levelOf, levelWords, towardsSettlement } from "../model/accounts";
import { type Asset, balance, exact, exactTitle, share } from "../model/format";
import { Money, Progress } from "./bits";

const assetOf = (account: Account) => ({ code: account.code, scale: account.scale });
const inWords = (percent: number) => [share(percent), levelWords(percent)].filter(Boolean).join(", ");

/** A balance beside others of its asset, which is named elsewhere. */
function Exact(props: { value: bigint; asset: Asset }) {
  return (
    <span class="num" title={exactTitle(props.value, props.asset)}>
      {balance(props.value, props.asset.scale)}
    </span>
  );
}

/** Both sides of the account, and what is held. */
export function Sides(props: { account: Account }) {
  const { account } = props;
  const asset = assetOf(account);
  return (
    <dl class="sides">
      <div>
        <dt title="What they sent through us, and what we paid them in settlements">They sent, or we paid</dt>
        <dd>
          <Exact value={account.debit} asset={asset} />
        </dd>
      </div>
      <div>
        <dt title="What we sent towards them, and what they paid us in settlements">We sent, or they paid</dt>
        <dd>
          <Exact value={account.credit} asset={asset} />
        </dd>
      </div>
      <div>
        <dt>Held now</dt>
        <dd title="for packets without an answer yet: from them / to them">
          <Money value={account.pendingDebits} asset={asset} unit={false} />
          {" / "}
          <Money value={account.pendingCredits} asset={asset} unit={false} />
        </dd>
      </div>
    </dl>
  );
}

/** How far its limits are used. */
export function Limits(props: { account: Account }) {
  const { account } = props;
  const asset = assetOf(account);
  const credit = creditUsed(account);
  const settle = towardsSettlement(account);
  return (
    <>
      <Progress
        label="Credit used"
        testId="credit"
        share={credit.share}
        level={levelOf(credit.share)}
        words={
          credit.share === null ? (
            "no credit given"
          ) : (
            <>
              <span class="num">{exact(credit.used, asset.scale)}</span> of <Money value={account.creditLimit} asset={asset} />
              {" · "}
              {inWords(credit.share)}
            </>
          )
        }
      />
      {settle !== null && account.threshold !== null ? (
        <Progress
          label="To settlement"
          testId="settlement"
          share={settle.share}
          level={levelOf(settle.share)}
          words={
            <>
              <span class="num">{exact(settle.owed, asset.scale)}</span> of <Money value={account.threshold} asset={asset} />
              {" · "}
              {inWords(settle.share)}
            </>
          }
        />
      ) : (
        <p class="no-threshold">No settlement threshold: what we owe is not settled by itself.</p>
      )}
    </>
  );
}
