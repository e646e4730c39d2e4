"""Intents about cards."""

from __future__ import annotations

from typing import Final

from components.prepare_data.phrasing import FollowUp, Intent

INTENTS: Final = (
    Intent(
        "card-order",
        asks=(
            "I want to order a {card}",
            "How do I get a new {card}?",
            "Can I order a {card} in the app?",
            "Where can I ask for a {card}?",
            "I would like to have a {card}",
            "Please give me a new {card}",
            "What do I do to get a {card}?",
        ),
        held_out=("How can I order a new {card}?", "I would like to get a {card}", "Where do I ask for a new {card}?"),
        answer="Order the {card} under Cards, New card.",
        subject="card",
    ),
    Intent(
        "card-delivery",
        asks=(
            "When will my {card} arrive?",
            "How long until the {card} is delivered?",
            "When does my new {card} come?",
            "How many days does delivery of a {card} take?",
            "I am waiting for my {card}, when is it here?",
            "What is the delivery time of the {card}?",
            "My {card} has not arrived yet, when will it come?",
        ),
        held_out=(
            "How many days until my {card} will arrive?",
            "When is the {card} delivered?",
            "What is the delivery time of my new {card}?",
        ),
        answer="The {card} arrives in {card_days} days.",
        subject="card",
    ),
    Intent(
        "card-fee",
        asks=(
            "What does the {card} cost?",
            "How much is the {card} a year?",
            "Is there a yearly fee for the {card}?",
            "What is the price of a {card}?",
            "How much do I pay for the {card} each year?",
            "Tell me the fee of the {card}",
            "What is the yearly cost of a {card}?",
        ),
        held_out=(
            "How much does the {card} cost a year?",
            "What is the yearly fee of the {card}?",
            "How much do I pay for a {card}?",
        ),
        answer="The {card} costs {card_fee} EUR a year.",
        subject="card",
    ),
    Intent(
        "card-limit",
        asks=(
            "What is the daily limit of the {card}?",
            "How much can I spend with the {card} a day?",
            "What can I spend per day on my {card}?",
            "Tell me the limit of my {card}",
            "How high is the daily limit on the {card}?",
            "What is the most my {card} allows a day?",
            "Is there a daily limit on my {card}?",
        ),
        held_out=(
            "How high is the limit of my {card}?",
            "What is the most I can spend with the {card} a day?",
            "Tell me the daily limit on the {card}",
        ),
        answer="The {card} allows {card_limit} EUR a day.",
        subject="card",
    ),
    Intent(
        "card-raise-limit",
        asks=(
            "Raise the limit of my {card} to {amount} EUR",
            "I want a higher limit of {amount} EUR on the {card}",
            "Can you set the {card} limit to {amount} EUR?",
            "How do I raise my {card} to {amount} EUR?",
            "I need the {card} limit raised to {amount} EUR",
            "Please set my {card} to {amount} EUR a day",
            "How can I change the {card} limit to {amount} EUR?",
        ),
        held_out=(
            "Please raise my {card} limit to {amount} EUR",
            "I want to set the limit of the {card} to {amount} EUR",
            "How do I change my {card} to a limit of {amount} EUR?",
        ),
        answer="Set the {card} to {amount} EUR under Cards, Limits.",
        subject="card",
    ),
    Intent(
        "card-block",
        asks=(
            "I lost my {card}",
            "My {card} was stolen, please block it",
            "How do I block my {card}?",
            "Somebody stole my {card}",
            "I need to block the {card} now",
            "My {card} is lost, what can I do?",
            "Where can I block a stolen {card}?",
        ),
        held_out=(
            "I lost the {card} and need to block it",
            "My {card} is stolen, what can I do?",
            "How can I block a lost {card}?",
        ),
        answer="Block the {card} under Cards, Block now.",
        subject="card",
    ),
    Intent(
        "card-pin",
        asks=(
            "I forgot the PIN of my {card}",
            "Where do I see my {card} PIN?",
            "How do I get a PIN for the {card}?",
            "What is the PIN of my {card}?",
            "I do not know my {card} PIN any more",
            "Show me the PIN of the {card}",
            "I need the PIN for my {card}",
        ),
        held_out=(
            "Where do I get the PIN of my {card}?",
            "I forgot my {card} PIN",
            "How do I see the PIN for the {card}?",
        ),
        answer="See the {card} PIN under Cards, Show PIN.",
        subject="card",
    ),
    Intent(
        "card-declined",
        asks=(
            "My {card} was declined for {amount} EUR",
            "Why did the shop decline my {card} for {amount} EUR?",
            "A payment of {amount} EUR with my {card} was declined",
            "The {card} did not work for {amount} EUR",
            "I could not pay {amount} EUR with my {card}",
            "Why was {amount} EUR declined on the {card}?",
            "My {card} payment of {amount} EUR did not work",
        ),
        held_out=(
            "Why was my {card} declined for {amount} EUR?",
            "A payment of {amount} EUR with the {card} did not work",
            "The shop declined {amount} EUR on my {card}",
        ),
        answer="The {card} declined {amount} EUR: confirm it in the app.",
        subject="card",
    ),
    Intent(
        "card-abroad",
        asks=(
            "Can I use my cards in {country}?",
            "What does it cost to pay in {country}?",
            "I travel to {country}, do my cards work there?",
            "Is there a fee for paying in {country}?",
            "How much is the card fee in {country}?",
            "Do your cards work in {country}?",
            "I am on holiday in {country}, can I pay by card?",
        ),
        held_out=(
            "Do my cards work in {country}?",
            "I travel to {country}, is there a fee for paying by card?",
            "How much does it cost to pay by card in {country}?",
        ),
        answer="Paying in {country} costs {country_fee} percent.",
        subject="country",
    ),
)

FOLLOW_UPS: Final = (
    FollowUp(
        "card-delivery",
        "card",
        asks=(
            "And when will it arrive?",
            "When does it come?",
            "How long until it is here?",
            "How many days will it take?",
        ),
        held_out=("And when does it arrive?", "How many days until it is here?"),
    ),
    FollowUp(
        "card-fee",
        "card",
        asks=("And what does it cost?", "How much is it a year?", "Is there a yearly fee?", "What is the price of it?"),
        held_out=("And how much does it cost a year?", "What is the yearly fee?"),
    ),
    FollowUp(
        "card-limit",
        "card",
        asks=(
            "And what is its limit?",
            "How much can I spend with it?",
            "What is the daily limit?",
            "How high is the limit?",
        ),
        held_out=("And how much can I spend a day?", "How high is the daily limit?"),
    ),
    FollowUp(
        "card-pin",
        "card",
        asks=("And where is the PIN?", "How do I get its PIN?", "Where do I see the PIN?"),
        held_out=("And how do I see its PIN?", "Where do I get the PIN?"),
    ),
)
