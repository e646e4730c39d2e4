"""Intents about payments."""

from __future__ import annotations

from typing import Final

from components.prepare_data.phrasing import FollowUp, Intent

INTENTS: Final = (
    Intent(
        "transfer-fee",
        asks=(
            "What does a {transfer} cost?",
            "How much is a {transfer}?",
            "Is a {transfer} free?",
            "What is the fee for a {transfer}?",
            "What do you charge for a {transfer}?",
            "How much do I pay for a {transfer}?",
            "Tell me the cost of a {transfer}",
        ),
        held_out=(
            "How much does a {transfer} cost?",
            "What is the cost of a {transfer}?",
            "Is there a fee for a {transfer}?",
        ),
        answer="A {transfer} costs {transfer_fee} EUR.",
        subject="transfer",
    ),
    Intent(
        "transfer-time",
        asks=(
            "How long does a {transfer} take?",
            "When is the money there with a {transfer}?",
            "How fast is a {transfer}?",
            "How many days does a {transfer} need?",
            "When does a {transfer} arrive?",
            "What is the time for a {transfer}?",
            "How quickly does a {transfer} get there?",
        ),
        held_out=(
            "How long does a {transfer} need?",
            "When does the money of a {transfer} arrive?",
            "How fast does a {transfer} get there?",
        ),
        answer="A {transfer} takes {transfer_time}.",
        subject="transfer",
    ),
    Intent(
        "transfer-limit",
        asks=(
            "What is the limit of a {transfer}?",
            "How much can I send with a {transfer}?",
            "What is the most I can send by {transfer}?",
            "Is there a limit for a {transfer}?",
            "How high can a {transfer} be?",
            "What is the largest {transfer}?",
            "How big can my {transfer} be?",
        ),
        held_out=(
            "What is the most I can send with a {transfer}?",
            "How high is the limit of a {transfer}?",
            "Is there a limit on how much I can send by {transfer}?",
        ),
        answer="The limit of a {transfer} is {transfer_limit} EUR.",
        subject="transfer",
    ),
    Intent(
        "transfer-send",
        asks=(
            "I want to send {amount} {currency}",
            "How do I send {amount} {currency} to a friend?",
            "Where can I transfer {amount} {currency}?",
            "Please help me send {amount} {currency}",
            "How can I pay somebody {amount} {currency}?",
            "I need to transfer {amount} {currency}",
            "I have to send {amount} {currency} today",
        ),
        held_out=(
            "How can I send {amount} {currency}?",
            "I need to send {amount} {currency} to somebody",
            "Where do I transfer {amount} {currency} to a friend?",
        ),
        answer="Send {amount} {currency} under Payments, New transfer.",
        subject="currency",
    ),
    Intent(
        "transfer-recall",
        asks=(
            "Call back transfer {reference}",
            "I want to recall transfer {reference}",
            "Can I get transfer {reference} back?",
            "Transfer {reference} was a mistake",
            "I sent transfer {reference} to the wrong person",
            "How do I recall transfer {reference}?",
            "Please call transfer {reference} back",
        ),
        held_out=(
            "Please recall transfer {reference}",
            "I sent transfer {reference} by mistake",
            "How do I get transfer {reference} back?",
        ),
        answer="Transfer {reference} can be recalled under Payments.",
        subject="reference",
    ),
    Intent(
        "transfer-missing",
        asks=(
            "Transfer {reference} of {date} is missing",
            "Where is transfer {reference} from {date}?",
            "My transfer {reference} of {date} did not arrive",
            "I cannot find transfer {reference} from {date}",
            "Transfer {reference} sent on {date} has not come",
            "The money of transfer {reference} from {date} is not there",
            "Please look for transfer {reference} of {date}",
        ),
        held_out=(
            "My transfer {reference} from {date} is missing",
            "Where is the money of transfer {reference} of {date}?",
            "I cannot find transfer {reference} sent on {date}",
        ),
        answer="We look for transfer {reference} of {date}.",
        subject="reference",
    ),
    Intent(
        "standing-order",
        asks=(
            "Pay {amount} EUR on day {day} of every month",
            "I want a standing order of {amount} EUR on day {day}",
            "Set up a standing order for {amount} EUR on day {day}",
            "How do I send {amount} EUR every month on day {day}?",
            "Make a monthly payment of {amount} EUR on day {day}",
            "I need to pay {amount} EUR monthly on day {day}",
            "Can I have {amount} EUR sent each month on day {day}?",
        ),
        held_out=(
            "I want to pay {amount} EUR every month on day {day}",
            "Please set up a standing order of {amount} EUR on day {day}",
            "How do I make a monthly payment of {amount} EUR on day {day}?",
        ),
        answer="Standing order: {amount} EUR on day {day} of each month.",
    ),
    Intent(
        "debit-return",
        asks=(
            "Return the direct debit of {amount} EUR from {date}",
            "A debit of {amount} EUR on {date} was wrong",
            "I want back the direct debit of {amount} EUR of {date}",
            "How do I return a debit of {amount} EUR from {date}?",
            "Please return the debit of {amount} EUR of {date}",
            "The direct debit from {date} over {amount} EUR is wrong",
            "Can I return the direct debit of {date} over {amount} EUR?",
        ),
        held_out=(
            "Please return the direct debit of {amount} EUR from {date}",
            "The debit of {amount} EUR on {date} is wrong",
            "How do I return the direct debit of {date} over {amount} EUR?",
        ),
        answer="The debit of {amount} EUR from {date} can be returned.",
    ),
    Intent(
        "exchange-currency",
        asks=(
            "What does it cost to change money to {currency}?",
            "What is your fee for {currency}?",
            "How much do you charge to exchange {currency}?",
            "I want to exchange money to {currency}, what is the fee?",
            "Is there a fee to buy {currency}?",
            "What does changing {currency} cost?",
            "How expensive is it to exchange {currency}?",
        ),
        held_out=(
            "How much does it cost to exchange {currency}?",
            "What is the fee to change money to {currency}?",
            "I want to buy {currency}, what do you charge?",
        ),
        answer="Changing {currency} costs {currency_fee} percent.",
        subject="currency",
    ),
    Intent(
        "cash-deposit",
        asks=(
            "Where can I deposit {amount} EUR in cash in {city}?",
            "I want to pay in {amount} EUR cash in {city}",
            "Can I bring {amount} EUR in cash to {city}?",
            "I have {amount} EUR in cash in {city}",
            "How do I deposit {amount} EUR cash in {city}?",
            "I need to deposit cash of {amount} EUR in {city}",
            "Does {city} take {amount} EUR in cash?",
        ),
        held_out=(
            "I want to deposit {amount} EUR cash in {city}",
            "Can I deposit {amount} EUR in cash in {city}?",
            "Where can I bring {amount} EUR cash in {city}?",
        ),
        answer="Bring {amount} EUR in cash to the {city} branch.",
        subject="city",
    ),
)

FOLLOW_UPS: Final = (
    FollowUp(
        "transfer-fee",
        "transfer",
        asks=("And what does it cost?", "How much is it?", "Is there a fee for it?", "What do you charge for it?"),
        held_out=("And how much does it cost?", "What is the fee for it?"),
    ),
    FollowUp(
        "transfer-time",
        "transfer",
        asks=("And how long does it take?", "When is the money there?", "How fast is it?", "When does it arrive?"),
        held_out=("And when does the money arrive?", "How long does it need?"),
    ),
    FollowUp(
        "transfer-limit",
        "transfer",
        asks=("And what is the limit?", "How much can I send with it?", "What is the most I can send?"),
        held_out=("And how much can I send?", "What is the most I can send with it?"),
    ),
    FollowUp(
        "exchange-currency",
        "currency",
        asks=(
            "And what is the fee to exchange it?",
            "What does changing it cost?",
            "How much do you charge to change it?",
        ),
        held_out=("And how much does it cost to exchange it?", "What is the fee to change it?"),
    ),
    FollowUp(
        "transfer-recall",
        "reference",
        asks=("Can I call it back?", "How do I recall it?", "And can I get it back?"),
        held_out=("And how do I call it back?", "Can I recall it?"),
    ),
)
